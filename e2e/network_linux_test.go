package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/require"
)

// The network of TestNetwork: firn's host has a link to a peer that stands
// for the internet, with a public address, a private one, and that of a
// cloud's metadata service. All three can be reached from the host.
const (
	hostPublic   = "9.9.9.1"
	peerPublic   = "9.9.9.10"
	peerPrivate  = "10.9.9.10"
	peerMetadata = "169.254.169.254"
)

// peerVar makes the test binary the peer.
const peerVar = "FIRN_E2E_PEER"

// TestNetwork tries the policies internet and none against a network of its
// own.
func TestNetwork(t *testing.T) {
	if os.Getenv(peerVar) != "" {
		servePeer(t)
		return
	}
	t.Parallel()
	if !inside(t) {
		return
	}
	needTUN(t)
	connectPeer(t)
	t.Run("internet", reachesInternet)
	t.Run("none", reachesNothing)
}

// connectPeer starts the peer in a network namespace of its own and connects
// it.
func connectPeer(t *testing.T) {
	_, err := exec.LookPath("ip")
	require.Feature(t, "ip", err == nil, fmt.Sprint(err))
	peer := exec.Command("/proc/self/exe", "-test.run=^TestNetwork$", "-test.v")
	peer.Env = append(os.Environ(), peerVar+"=1")
	peer.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out := newTranscript()
	peer.Stdout, peer.Stderr = out, out
	orders, err := peer.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := peer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		orders.Close()
		peer.Process.Kill()
		peer.Wait()
	})
	run := func(args ...string) {
		t.Helper()
		if raw, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, raw)
		}
	}
	run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1", "netns", fmt.Sprint(peer.Process.Pid))
	run("ip", "address", "add", hostPublic+"/24", "dev", "up0")
	run("ip", "link", "set", "up0", "up")
	run("ip", "route", "add", peerPrivate+"/32", "via", peerPublic)
	run("ip", "route", "add", peerMetadata+"/32", "via", peerPublic)
	fmt.Fprintln(orders, "connected")
	select {
	case <-out.await("the peer serves"):
	case <-time.After(patience):
		t.Fatalf("the peer does not serve:\n%s", out)
	}
	if err := os.WriteFile("/tmp/resolv.conf", []byte("nameserver "+peerPublic+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/tmp/resolv.conf", "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{peerPublic, peerPrivate, peerMetadata} {
		conn, err := net.DialTimeout("tcp", addr+":80", patience)
		if err != nil {
			t.Fatalf("the host itself does not reach %s: %v", addr, err)
		}
		conn.Close()
	}
}

// servePeer is the peer: it configures its end, greets on TCP port 80,
// echoes on UDP port 5000 and resolves names on port 53.
func servePeer(t *testing.T) {
	if _, err := os.Stdin.Read(make([]byte, 16)); err != nil { // until the link is there
		t.Fatal(err)
	}
	linkUp(t, "lo")
	for _, args := range [][]string{
		{"address", "add", peerPublic + "/24", "dev", "up1"}, {"address", "add", peerPrivate + "/32", "dev", "up1"},
		{"address", "add", peerMetadata + "/32", "dev", "up1"}, {"link", "set", "up1", "up"},
	} {
		if raw, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, raw)
		}
	}
	web, err := net.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := web.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "the peer")
			conn.Close()
		}
	}()
	echo := listenUDP(t, 5000)
	go answerPackets(echo, func(b []byte) []byte { return b })
	names := listenUDP(t, 53)
	go answerPackets(names, resolve)
	fmt.Println("the peer serves")
	io.Copy(io.Discard, os.Stdin) // ends with the test
}

func listenUDP(t *testing.T, port int) *net.UDPConn {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(peerPublic), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func answerPackets(conn *net.UDPConn, answer func([]byte) []byte) {
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFromUDP(buf)
		if err != nil {
			return
		}
		conn.WriteToUDP(answer(buf[:n]), from)
	}
}

// resolve answers a DNS query with the address that the first label of its
// name stands for: public, private or metadata. Other types than A have no
// records.
func resolve(query []byte) []byte {
	end := 12
	for end < len(query) && query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5
	if end > len(query) {
		return nil
	}
	out := append([]byte{}, query[:end]...)
	out[2], out[3] = 0x81, 0x80
	copy(out[6:12], make([]byte, 6))
	addr := map[string]string{"public": peerPublic, "private": peerPrivate, "metadata": peerMetadata}[string(query[13:13+int(query[12])])]
	if addr == "" {
		out[3] = 0x83 // no such name
		return out
	}
	if query[end-3] != 1 || query[end-4] != 0 {
		return out
	}
	out[7] = 1
	out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
	return append(out, net.ParseIP(addr).To4()...)
}

// bait is a listener of the host on all its addresses.
func bait(t *testing.T) (port string) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "the host")
			conn.Close()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// outside are the addresses that both policies are tried with.
func outside(apiPort, baitPort string) []string {
	return []string{
		"tcp|" + peerPublic + ":80", "tcp|public.test:80", "udp|" + peerPublic + ":5000",
		"tcp|" + peerPrivate + ":80", "tcp|private.test:80", "tcp|" + peerMetadata + ":80", "tcp|metadata.test:80",
		"tcp|" + hostPublic + ":" + apiPort, "tcp|" + hostPublic + ":" + baitPort, "tcp|169.254.76.1:" + apiPort, "tcp|169.254.76.1:" + baitPort,
		"udp|" + peerPrivate + ":5000",
	}
}

func reachesInternet(t *testing.T) {
	// On every address of the host, which takes authentication.
	n := start(t, options{args: []string{"--network", "internet", "--listen", "0.0.0.0:0"}})
	_, port, _ := net.SplitHostPort(n.address())
	n.create("f", function{memory: 512})
	var found struct {
		Addrs []string
		Err   string
	}
	n.succeed("f", order{Do: "lookup", Arg: "public.test"}).into(t, &found)
	if len(found.Addrs) != 1 || found.Addrs[0] != peerPublic {
		t.Errorf("the name resolves to %v %s", found.Addrs, found.Err)
	}
	n.succeed("f", order{Do: "lookup", Arg: "nothing.test"}).into(t, &found)
	if !strings.Contains(found.Err, "no such host") {
		t.Errorf("a name that is not there: %v %s", found.Addrs, found.Err)
	}
	targets := outside(port, bait(t))
	var got map[string]string
	n.succeed("f", order{Do: "connects", Arg: strings.Join(targets, ",")}).into(t, &got)
	for i, target := range targets {
		result := got[target]
		if reached := result == "connected the peer" || i == 2 && result == "connected"; reached != (i < 3) {
			t.Errorf("%s: %q", target, result)
		} else if i >= 3 && strings.Contains(result, "connected") {
			t.Errorf("%s: %q", target, result)
		}
	}
	n.stop()
}

func reachesNothing(t *testing.T) {
	n := start(t, options{args: []string{"--network", "none"}})
	_, port, _ := net.SplitHostPort(n.address())
	n.create("f", function{memory: 512})
	var self struct{ Interfaces []string }
	n.succeed("f", order{Do: "info"}).into(t, &self)
	if len(self.Interfaces) != 1 || self.Interfaces[0] != "lo" {
		t.Errorf("interfaces %v", self.Interfaces)
	}
	targets := outside(port, bait(t))
	var got map[string]string
	n.succeed("f", order{Do: "connects", Arg: strings.Join(targets, ",")}).into(t, &got)
	for _, target := range targets {
		if result := got[target]; result == "" || strings.HasPrefix(result, "connected") {
			t.Errorf("%s: %q", target, result)
		}
	}
	n.stop()
}
