package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/runtimes"
)

func newRuntimePull(open openRuntimes) *cobra.Command {
	var opt runtimes.PullOptions
	cmd := &cobra.Command{
		Use:   "pull NAME...",
		Short: "Fetch runtimes as AWS's base images",
		Long: "Fetch runtimes as AWS's base images, from their public registry or from one that has them too, verified by digest.\n" +
			"What was interrupted goes on where it stopped; what runtimes have in common is fetched and stored once. A pulled\n" +
			"runtime takes the place of a built one. Registries get the credentials of docker login.",
		Example: "  firn runtime pull python3.13 nodejs22.x\n" +
			"  firn runtime pull ruby3.4 --registry registry.example.com/mirror/lambda\n" +
			"  firn runtime pull dotnet8 --image registry.example.com/dotnet@sha256:...\n" +
			"  docker save public.ecr.aws/lambda/java:21 -o java.tar && firn runtime pull java21 --from java.tar",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) (err error) {
			if len(names) > 1 && opt.Image+opt.From != "" {
				return errors.New("--image and --from are for one runtime at a time")
			}
			store, err := open()
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, store.Close()) }()
			for _, name := range names {
				if err := pullRuntime(cmd, store, name, opt); err != nil {
					return err
				}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opt.Registry, "registry", "", "HOST[:PORT][/PREFIX] that has AWS's base images by their own names (default "+runtimes.DefaultRegistry+")")
	flags.StringVar(&opt.Image, "image", "", "another image, REGISTRY/NAME:TAG or REGISTRY/NAME@DIGEST; with --from, the one of several in the file")
	flags.StringVar(&opt.From, "from", "", "OCI layout (directory or tarball), or what docker save has written, instead of a registry")
	flags.BoolVar(&opt.Insecure, "insecure", false, "let the registry speak plain HTTP")
	return cmd
}

func pullRuntime(cmd *cobra.Command, store *runtimes.Store, name string, opt runtimes.PullOptions) error {
	var clear func()
	opt.Progress, clear = progressLine(cmd.ErrOrStderr(), name)
	m, err := store.Pull(cmd.Context(), name, opt)
	clear()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is here: %s, %d MB, digest sha256:%s\n", name, cameFrom(m), m.Bytes/firn.MiB, m.Digest)
	return err
}

// progressLine shows how far a build or pull of a runtime is: in a line that
// is written over on a terminal, with a bar while bytes come; elsewhere in one
// line for each step. clear ends it.
func progressLine(out io.Writer, name string) (show func(runtimes.Progress), clear func()) {
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		const begin = "\r\x1b[K"
		return func(p runtimes.Progress) {
			width, _, err := term.GetSize(int(file.Fd()))
			if err != nil || width < 20 {
				width = 80
			}
			line := []rune(fmt.Sprintf("%s [%d/%d] %s%s", name, p.Step, p.Steps, bar(p), p.Text))
			fmt.Fprint(out, begin+string(line[:min(len(line), width-1)])) // a longer one could not be written over
		}, func() { fmt.Fprint(out, begin) }
	}
	last := 0
	return func(p runtimes.Progress) {
		if p.Step != last { // not for every piece of a layer
			fmt.Fprintf(out, "%s [%d/%d] %s\n", name, p.Step, p.Steps, p.Text)
		}
		last = p.Step
	}, func() {}
}

// bar draws how much of an image's layers has come: "" before that is known.
func bar(p runtimes.Progress) string {
	const width = 20
	if p.Total <= 0 {
		return ""
	}
	done := int(min(width, width*p.Done/p.Total))
	return fmt.Sprintf("[%s%s] %d/%d MB, %d layers, ", strings.Repeat("#", done), strings.Repeat(".", width-done),
		p.Done/firn.MiB, p.Total/firn.MiB, p.Layers)
}
