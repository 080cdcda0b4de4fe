package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/meshstatus"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/trust"
)

// everyone in place of names takes an export's list away.
const everyone = "*"

// maxTo is how many clusters the control plane takes in api.AnnotationExportTo.
const maxTo = 256

// Words of the flags that leave an annotation out.
const (
	localNameLocal = "local"
	entryAllow     = "allow"
)

// exportTerms are the flags of export that become annotations. A flag that is
// not given leaves what is there.
type exportTerms struct {
	to               []string
	localName, entry string
	force            bool
	// annotations holds what to set, and nil for what to remove.
	annotations map[string]any
}

func (t *exportTerms) add(cmd *cobra.Command, e *env, contexts *[]string) {
	cmd.Flags().StringSliceVar(&t.to, "to", nil, "clusters that may import it, besides its own; '"+everyone+"' for every linked one")
	cmd.Flags().StringVar(&t.localName, "local-name", "", "what NAME.NAMESPACE.svc.cluster.local does when no own pod is ready: "+localNameLocal+", or "+api.LocalNameFailover+" to other clusters")
	cmd.Flags().StringVar(&t.entry, "entry", "", "pods without a sidecar in other networks, who share one identity: "+entryAllow+" or "+api.EntryRefuse)
	cmd.Flags().BoolVar(&t.force, "force", false, "take names in --to that no link knows yet")
	// Registering fails only for a flag that is not there.
	_ = cmd.RegisterFlagCompletionFunc("local-name", cobra.FixedCompletions([]string{api.LocalNameFailover, localNameLocal}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("entry", cobra.FixedCompletions([]string{api.EntryRefuse, entryAllow}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("to", func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return e.completeClusters(cmd.Context(), *contexts, typed)
	})
}

// read turns the flags that were given into annotations.
func (t *exportTerms) read(cmd *cobra.Command) error {
	t.annotations = map[string]any{}
	if cmd.Flags().Changed("to") {
		if err := t.readTo(); err != nil {
			return err
		}
	}
	words := func(flag, value, annotation, set, leave string) error {
		if !cmd.Flags().Changed(flag) {
			return nil
		}
		switch value {
		case set:
			t.annotations[annotation] = set
		case leave:
			t.annotations[annotation] = nil
		default:
			return usageErrorf("--%s is %q; it may be %s or %s", flag, value, leave, set)
		}
		return nil
	}
	if err := words("local-name", t.localName, api.AnnotationLocalName, api.LocalNameFailover, localNameLocal); err != nil {
		return err
	}
	return words("entry", t.entry, api.AnnotationEntry, api.EntryRefuse, entryAllow)
}

func (t *exportTerms) readTo() error {
	var names []string
	for _, name := range t.to {
		names = append(names, strings.TrimSpace(name))
	}
	slices.Sort(names)
	t.to = slices.Compact(names)
	switch {
	case len(t.to) == 1 && t.to[0] == everyone:
		t.to, t.annotations[api.AnnotationExportTo] = nil, nil
		return nil
	case len(t.to) == 0:
		return usageErrorf("--to names no cluster; '%s' is every linked one, and the own cluster's name is the own one alone", everyone)
	case len(t.to) > maxTo:
		return usageErrorf("--to names %d clusters, more than %d", len(t.to), maxTo)
	}
	for _, name := range t.to {
		if !trust.ValidCluster(name) {
			return usageErrorf("--to: %q is not the name of a cluster (a DNS label)", name)
		}
	}
	t.annotations[api.AnnotationExportTo] = strings.Join(t.to, ",")
	return nil
}

// check refuses names that c knows no cluster by.
func (t *exportTerms) check(ctx context.Context, c *cluster.Cluster) error {
	if len(t.to) == 0 || t.force {
		return nil
	}
	known, err := knownClusters(ctx, c)
	if err != nil {
		return withHint(fmt.Errorf("see which clusters %s is linked with: %w", c.Context, err), "--force writes the names unseen")
	}
	var unknown []string
	for _, name := range t.to {
		if !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return withHint(fmt.Errorf("context %s is linked with no cluster called %s; it knows %s", c.Context, strings.Join(unknown, ", "), strings.Join(known, ", ")),
			"isthmus link; or --force where they are linked later")
	}
	return nil
}

// knownClusters returns the names of the own cluster and of all that it is linked with, sorted.
func knownClusters(ctx context.Context, c *cluster.Cluster) ([]string, error) {
	installed, err := clusterset.Find(ctx, c)
	if err != nil {
		return nil, err
	}
	if installed == nil {
		return nil, clusterset.ErrNotInstalled
	}
	known, err := meshstatus.LinkedClusters(ctx, c)
	if err != nil {
		return nil, err
	}
	known = append(known, installed.Cluster)
	slices.Sort(known)
	return slices.Compact(known), nil
}

// differs reports whether obj has not what the flags ask for.
func (t *exportTerms) differs(obj *unstructured.Unstructured) bool {
	have := obj.GetAnnotations()
	for key, want := range t.annotations {
		value, there := have[key]
		switch {
		case want == nil:
			if there {
				return true
			}
		case key == api.AnnotationExportTo && slices.Equal(meshstatus.SplitNames(value), t.to):
		case value != want:
			return true
		}
	}
	return false
}

// on puts the annotations on an export that is not there yet.
func (t *exportTerms) on(obj *unstructured.Unstructured) {
	out := map[string]string{}
	for key, value := range t.annotations {
		if text, ok := value.(string); ok {
			out[key] = text
		}
	}
	if len(out) > 0 {
		obj.SetAnnotations(out)
	}
}

// patch is the merge patch that brings an export to the flags.
func (t *exportTerms) patch() ([]byte, error) {
	return json.Marshal(map[string]any{"metadata": map[string]any{"annotations": maps.Clone(t.annotations)}})
}
