package main

import (
	"strings"

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

func joinWords(words []string) string { return strings.Join(words, " ") }
