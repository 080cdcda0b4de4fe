package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/meshstatus"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// exportReport is what export says about one cluster.
type exportReport struct {
	Context   string `json:"context"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Hostname  string `json:"hostname"`
	Changed   bool   `json:"changed"`
	Ready     bool   `json:"ready,omitempty"` // known only with --wait
	// Addresses are those of the clusterset's name in this cluster; known only with --wait.
	Addresses []string `json:"addresses,omitempty"`
	Message   string   `json:"message,omitempty"`
	// What the export's annotations say; empty for what is usual.
	To        []string `json:"to,omitempty"`
	LocalName string   `json:"localName,omitempty"`
	Entry     string   `json:"entry,omitempty"`
}

// exportFlags are the flags of export and unexport.
type exportFlags struct {
	out      output
	contexts []string
	wait     bool
	timeout  time.Duration
}

func (f *exportFlags) add(cmd *cobra.Command, e *env) {
	addOutput(cmd, &f.out)
	cmd.Flags().StringSliceVar(&f.contexts, "context", nil, "contexts to do it in; default the current one")
	cmd.Flags().BoolVar(&f.wait, "wait", false, "wait until it is done everywhere it can be seen from these contexts")
	cmd.Flags().DurationVar(&f.timeout, "timeout", time.Minute, "how long to wait")
	_ = cmd.RegisterFlagCompletionFunc("context", e.complete) // fails only for a flag that is not there
}

func newExportCommand(e *env) *cobra.Command {
	var f exportFlags
	var terms exportTerms
	cmd := &cobra.Command{
		Use:   "export NAMESPACE/NAME",
		Short: "Export a service to the clusterset",
		Long: `Write a ServiceExport: every linked cluster that has the namespace then reaches the service as NAME.NAMESPACE.svc.clusterset.local.

--to names the clusters that may import it, by their names in the clusterset, not their contexts: nobody else sees it,
and the sidecars of its pods refuse callers from elsewhere. --entry refuse shuts out pods without a sidecar in other
networks, and --local-name failover lets callers of the cluster.local name move to other clusters when no own pod is ready.
A second export without a flag leaves as it is what that flag says; '--to *', --entry allow and --local-name local take it back.`,
		Example: `  isthmus export shop/checkout --context west --wait
  isthmus export shop/checkout --context east,west -o json
  isthmus export shop/ledger --context west --to east,north --entry refuse
  isthmus export shop/ledger --context west --to '*'
  isthmus export shop/cart --context east,west --local-name failover`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := terms.read(cmd); err != nil {
				return withHint(err, cmd.CommandPath()+" --help")
			}
			return runExport(cmd.Context(), e, f, args[0], &terms)
		},
	}
	f.add(cmd, e)
	terms.add(cmd, e, &f.contexts)
	return cmd
}

func newUnexportCommand(e *env) *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:     "unexport NAMESPACE/NAME",
		Short:   "Take a service out of the clusterset",
		Example: "  isthmus unexport shop/checkout --context west --wait",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runExport(cmd.Context(), e, f, args[0], unexporter{})
		},
	}
	f.add(cmd, e)
	return cmd
}

// exportAction is what export or unexport does in one cluster; check comes first, in all of them.
type exportAction interface {
	check(ctx context.Context, c *cluster.Cluster) error
	do(ctx context.Context, c *cluster.Cluster, namespace, name string, wait bool) (exportReport, error)
}

func runExport(ctx context.Context, e *env, f exportFlags, service string, action exportAction) error {
	namespace, name, err := parseService(service)
	if err != nil {
		return err
	}
	if len(f.contexts) == 0 {
		f.contexts = []string{""}
	}
	clusters, err := e.open(f.contexts)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	for _, c := range clusters {
		if err := action.check(ctx, c); err != nil {
			return err
		}
	}
	var reports []exportReport
	for _, c := range clusters {
		report, err := action.do(ctx, c, namespace, name, f.wait)
		if err != nil {
			return err
		}
		reports = append(reports, report)
	}
	if f.out == outputJSON {
		return printJSON(e.Out, map[string]any{"services": reports})
	}
	for _, r := range reports {
		fmt.Fprintf(e.Out, "%s: %s/%s (%s): %s\n", r.Context, r.Namespace, r.Name, r.Hostname, r.Message)
	}
	return nil
}

func newExport(namespace, name string) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: map[string]any{}}
	obj.SetGroupVersionKind(mcsv1beta1.SchemeGroupVersion.WithKind("ServiceExport"))
	obj.SetNamespace(namespace)
	obj.SetName(name)
	return obj
}

func (t *exportTerms) do(ctx context.Context, c *cluster.Cluster, namespace, name string, wait bool) (exportReport, error) {
	report := exportReport{Context: c.Context, Namespace: namespace, Name: name, Hostname: clustersetName(namespace, name), Message: "exported already"}
	if _, err := c.Kube.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		return report, withHint(fmt.Errorf("export %s/%s: context %s has no such Service", namespace, name, c.Context),
			fmt.Sprintf("kubectl --context %s get services -n %s", c.Context, namespace))
	} else if err != nil {
		return report, fmt.Errorf("export %s/%s: %w", namespace, name, err)
	}
	obj, err := t.write(ctx, c, namespace, name, &report)
	if err != nil {
		return report, err
	}
	report.tell(obj)
	if !wait {
		return report, nil
	}
	err = waitExported(ctx, c, obj, &report)
	report.Ready = err == nil
	return report, err
}

// write makes the export as the flags ask, or changes the one that is there.
func (t *exportTerms) write(ctx context.Context, c *cluster.Cluster, namespace, name string, report *exportReport) (*unstructured.Unstructured, error) {
	obj := newExport(namespace, name)
	found, err := c.Resource(obj).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		report.Changed, report.Message = true, "exported"
		t.on(obj)
		found, err = c.Resource(obj).Create(ctx, obj, metav1.CreateOptions{FieldManager: cluster.FieldOwner})
		if apierrors.IsNotFound(err) {
			return nil, withHint(fmt.Errorf("context %s does not know ServiceExport", c.Context), "isthmus install "+c.Context)
		}
	case err == nil && t.differs(found):
		report.Changed, report.Message = true, "changed"
		patch, perr := t.patch()
		if perr != nil {
			return nil, fmt.Errorf("export %s/%s: %w", namespace, name, perr)
		}
		found, err = c.Resource(obj).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: cluster.FieldOwner})
	}
	if err != nil {
		return nil, fmt.Errorf("export %s/%s in %s: %w", namespace, name, c.Context, err)
	}
	return found, nil
}

// tell says what the export's annotations restrict.
func (r *exportReport) tell(obj *unstructured.Unstructured) {
	have := obj.GetAnnotations()
	r.To, r.LocalName, r.Entry = meshstatus.SplitNames(have[api.AnnotationExportTo]), have[api.AnnotationLocalName], have[api.AnnotationEntry]
	if len(r.To) > 0 {
		r.Message += ", to " + strings.Join(r.To, ", ")
	}
	if r.LocalName != "" {
		r.Message += ", local name: " + r.LocalName
	}
	if r.Entry != "" {
		r.Message += ", entry gateways: " + r.Entry
	}
}

// unexporter deletes exports.
type unexporter struct{}

func (unexporter) check(context.Context, *cluster.Cluster) error { return nil }

func (unexporter) do(ctx context.Context, c *cluster.Cluster, namespace, name string, wait bool) (exportReport, error) {
	report := exportReport{Context: c.Context, Namespace: namespace, Name: name, Hostname: clustersetName(namespace, name), Message: "was not exported"}
	obj := newExport(namespace, name)
	err := c.Resource(obj).Delete(ctx, name, metav1.DeleteOptions{})
	if err == nil {
		report.Changed, report.Message = true, "no longer exported"
	} else if !apierrors.IsNotFound(err) {
		return report, fmt.Errorf("unexport %s/%s in %s: %w", namespace, name, c.Context, err)
	}
	if !wait {
		return report, nil
	}
	return report, cluster.Until(ctx, "export "+name+" to be gone in "+c.Context, func(ctx context.Context) (string, error) {
		_, err := c.Resource(obj).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return "the ServiceExport is still there", err
	})
}

func clustersetName(namespace, name string) string {
	return name + "." + namespace + ".svc." + api.ZoneClusterSet
}
