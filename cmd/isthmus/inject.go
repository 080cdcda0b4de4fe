package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/injectfile"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/meshstatus"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

func newInjectCommand(e *env) *cobra.Command {
	var opts injectOptions
	cmd := &cobra.Command{
		Use:   "inject -f FILE",
		Short: "Put sidecars into manifests, as the webhook would",
		Long: `Print the manifests of FILE (- is standard input) with a sidecar in each pod: of Pods, Deployments, StatefulSets, DaemonSets,
ReplicaSets, Jobs and CronJobs, also within Lists. It is the very patch that the webhook of the context's control plane answers with.
Labels of namespaces are not looked at, those of pods are. What is left alone, and why, goes to standard error.`,
		Example: `  isthmus inject -f app.yaml --context east | kubectl --context east apply -f -
  kustomize build . | isthmus inject -f - --context east`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runInject(cmd.Context(), e, opts)
		},
	}
	cmd.Flags().StringVarP(&opts.file, "filename", "f", "", "file of manifests; - is standard input")
	cmd.Flags().StringVar(&opts.context, "context", "", "cluster for which; default the current context")
	cmd.Flags().StringVarP(&opts.namespace, "namespace", "n", "default", "namespace of objects that name none")
	cmd.Flags().StringVar(&opts.primary, "primary", "", "context of the primary that serves it, where it is a remote")
	_ = cmd.MarkFlagRequired("filename")
	_ = cmd.RegisterFlagCompletionFunc("context", e.complete) // fails only for a flag that is not there
	_ = cmd.RegisterFlagCompletionFunc("primary", e.complete)
	return cmd
}

type injectOptions struct{ file, context, primary, namespace string }

func runInject(ctx context.Context, e *env, opts injectOptions) error {
	manifests, err := readInput(e.In, opts.file)
	if err != nil {
		return err
	}
	c, err := cluster.Open(e.kubeconfig, opts.context)
	if err != nil {
		return err
	}
	var primary *cluster.Cluster
	if opts.primary != "" {
		if primary, err = cluster.Open(e.kubeconfig, opts.primary); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, meshstatus.Patience)
	defer cancel()
	cfg, err := injectfile.ReadConfig(ctx, c, primary)
	if err != nil {
		return err
	}
	out, err := injectfile.Manifests(manifests, opts.namespace, cfg)
	if err != nil {
		return err
	}
	for _, note := range out.Notes {
		fmt.Fprintln(e.Err, note)
	}
	fmt.Fprintf(e.Err, "%d pods with a sidecar\n", out.Injected)
	_, err = e.Out.Write(out.Manifests)
	return err
}

// maxManifests bounds what is read, in bytes.
const maxManifests = 64 << 20

func readInput(in io.Reader, file string) ([]byte, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxManifests+1))
	if err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	if len(data) > maxManifests {
		return nil, fmt.Errorf("read manifests: more than %d bytes", maxManifests)
	}
	return data, nil
}
