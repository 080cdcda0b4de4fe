package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// env is what all commands share: the streams, and the flags of the root command.
type env struct {
	Streams
	kubeconfig string
}

// addKubeconfig gives the root command, and with it all others, the flag.
func (e *env) addKubeconfig(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&e.kubeconfig, "kubeconfig", "", "kubeconfig file; default $KUBECONFIG, else ~/.kube/config")
}

// open returns the clusters of contexts in their order, each of which may be
// given once.
func (e *env) open(contexts []string) ([]*cluster.Cluster, error) {
	seen := map[string]bool{}
	var out []*cluster.Cluster
	for _, name := range contexts {
		if seen[name] {
			return nil, usageErrorf("context %s is given twice", name)
		}
		seen[name] = true
		c, err := cluster.Open(e.kubeconfig, name)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// complete offers the kubeconfig's contexts.
func (e *env) complete(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	names, err := cluster.Contexts(e.kubeconfig)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []string
	given := map[string]bool{}
	for _, a := range args {
		given[a] = true
	}
	for _, n := range names {
		if !given[n] {
			out = append(out, n)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completePatience is how long a completion may ask a cluster.
const completePatience = 2 * time.Second

// completeClusters offers the names of the clusters that contexts, or the current one, know, in
// a list separated by commas.
func (e *env) completeClusters(ctx context.Context, contexts []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(contexts) == 0 {
		contexts = []string{""}
	}
	clusters, err := e.open(contexts)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	ctx, cancel := context.WithTimeout(ctx, completePatience)
	defer cancel()
	given := typed[:strings.LastIndex(typed, ",")+1]
	var out []string
	for _, c := range clusters {
		names, err := knownClusters(ctx, c)
		if err != nil {
			continue // offers less
		}
		for _, n := range names {
			if !slices.Contains(strings.Split(given, ","), n) && !slices.Contains(out, given+n) {
				out = append(out, given+n)
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

func joinWords(words []string) string { return strings.Join(words, " ") }
