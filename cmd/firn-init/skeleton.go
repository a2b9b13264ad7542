//go:build linux

package main

import (
	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// writeSkeleton makes the directories and files that are the sandbox's own in
// the current directory. An image, which lies at the path image, brings its own
// users and name services; without one ("") they are made here.
func writeSkeleton(image string) error {
	full := image == ""
	for _, dir := range []string{"dev", "etc", "mnt", "proc", "sys", "tmp"} {
		if err := unix.Mkdir(dir, 0o755); err != nil {
			return failed("make "+dir, err)
		}
	}
	if err := makePlaces(image); err != nil {
		return err
	}
	files := [][2]string{
		{"etc/hosts", "127.0.0.1 localhost sandbox sandbox.localdomain\n"},
		// firn's end of the link to the outside; nobody answers without one.
		{"etc/resolv.conf", "nameserver 169.254.76.1\n"},
	}
	if full {
		for _, dir := range []string{"home", "root", "run", "usr", "var/tmp"} {
			if err := unix.Mkdir(dir, 0o755); err != nil {
				return failed("make "+dir, err)
			}
		}
		files = append(files, [][2]string{
			{"etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\n" +
				"sbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n" +
				"nobody:x:65534:65534:nobody:/:/sbin/nologin\n"},
			{"etc/group", "root:x:0:\nsbx_user1051:x:990:\nnobody:x:65534:\n"},
			{"etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"},
		}...)
		if err := unix.Symlink("../usr/share/zoneinfo/UTC", "etc/localtime"); err != nil {
			return failed("link etc/localtime", err)
		}
	}
	for _, f := range files {
		if err := writeFile(f[0], f[1]); err != nil {
			return err
		}
	}
	return nil
}

// makePlaces makes the directories where a function's and a runtime's files
// appear. Where the image has a directory the two become one; where it has a
// link (/opt in /var, say) the link stays, and leads to the image's files.
func makePlaces(image string) error {
	for _, dir := range []string{"opt", "var", "var/lang", "var/runtime", "var/task"} {
		var st unix.Stat_t
		if image != "" && unix.Lstat(image+"/"+dir, &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		// Below a link that has stayed there is nothing to make.
		if err := unix.Mkdir(dir, 0o755); err != nil && (image == "" || err != unix.ENOENT) {
			return failed("make "+dir, err)
		}
	}
	return nil
}

func writeFile(path, content string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return failed("write "+path, err)
	}
	_, err = unix.Write(fd, []byte(content))
	_ = unix.Close(fd)
	return failed("write "+path, err)
}

// makePoint makes the directory or file that m is mounted on.
func makePoint(m initproto.Mount) error {
	if err := makeParents(m.Dest); err != nil {
		return err
	}
	path := relative(m.Dest)
	if !m.File {
		err := unix.Mkdir(path, 0o755)
		if err == unix.EEXIST {
			err = nil
		}
		return failed("make "+m.Dest, err)
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return failed("make "+m.Dest, err)
	}
	_ = unix.Close(fd)
	return nil
}

func makeParents(path string) error {
	path = relative(path)
	for i := range len(path) {
		if path[i] != '/' {
			continue
		}
		if err := unix.Mkdir(path[:i], 0o755); err != nil && err != unix.EEXIST {
			return failed("make "+path[:i], err)
		}
	}
	return nil
}

// relative is the path below the directory that becomes the root.
func relative(path string) string {
	for len(path) > 0 && path[0] == '/' {
		path = path[1:]
	}
	return path
}
