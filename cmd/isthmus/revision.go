package main

import (
	"context"
	"fmt"
	"io"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// installRevision is install --revision.
func installRevision(ctx context.Context, e *env, f installFlags, clusters []*cluster.Cluster) error {
	values, err := f.values()
	if err != nil {
		return err
	}
	p := newProgress(e.Streams)
	made, err := clusterset.InstallRevision(ctx, clusters, clusterset.InstallOptions{Values: values, Reset: f.reset, Progress: func(cluster, step string) {
		if f.verbose || isWait(step) {
			p.say(cluster, step)
		}
	}})
	if err != nil {
		return err
	}
	return finish(true, f.out, e.Out, map[string]any{"installed": made}, func(w io.Writer) error {
		for _, r := range made {
			state := "installed"
			if r.Before {
				state = "was installed; brought up to date"
			}
			fmt.Fprintf(w, "cluster %s (context %s), revision %s: %s\n", r.Cluster, r.Context, r.Revision, state)
		}
		_, err := fmt.Fprintf(w, "next: kubectl label namespace NAME istio-injection- isthmus.dev/inject- istio.io/rev=%s, and restart its pods\n", f.revision)
		return err
	})
}

// uninstallRevision is uninstall --revision.
func uninstallRevision(ctx context.Context, e *env, revision string, clusters []*cluster.Cluster, out output) error {
	removed, err := clusterset.UninstallRevision(ctx, clusters, revision)
	if err != nil {
		return err
	}
	return finish(true, out, e.Out, map[string]any{"uninstalled": removed}, func(w io.Writer) error {
		for _, r := range removed {
			state := "removed"
			if !r.Before {
				state = "was not installed"
			}
			fmt.Fprintf(w, "context %s, revision %s: %s\n", r.Context, revision, state)
		}
		_, err := fmt.Fprintf(w, "  to do: pods that it has injected serve with what they have, until they are restarted; label their namespaces istio-injection=enabled first: kubectl get namespaces -l istio.io/rev=%s\n", revision)
		return err
	})
}
