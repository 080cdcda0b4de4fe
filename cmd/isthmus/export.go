package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
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
	cmd := &cobra.Command{
		Use:   "export NAMESPACE/NAME",
		Short: "Export a service to the clusterset",
		Long:  "Write a ServiceExport: every linked cluster that has the namespace then reaches the service as NAME.NAMESPACE.svc.clusterset.local.",
		Example: `  isthmus export shop/checkout --context west --wait
  isthmus export shop/checkout --context east,west -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runExport(cmd.Context(), e, f, args[0], exportOne)
		},
	}
	f.add(cmd, e)
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
			return runExport(cmd.Context(), e, f, args[0], unexportOne)
		},
	}
	f.add(cmd, e)
	return cmd
}

type exportAction func(ctx context.Context, c *cluster.Cluster, namespace, name string, wait bool) (exportReport, error)

func runExport(ctx context.Context, e *env, f exportFlags, service string, do exportAction) error {
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
	var reports []exportReport
	for _, c := range clusters {
		report, err := do(ctx, c, namespace, name, f.wait)
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

func exportOne(ctx context.Context, c *cluster.Cluster, namespace, name string, wait bool) (exportReport, error) {
	report := exportReport{Context: c.Context, Namespace: namespace, Name: name, Hostname: clustersetName(namespace, name), Message: "exported already"}
	if _, err := c.Kube.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		return report, withHint(fmt.Errorf("export %s/%s: context %s has no such Service", namespace, name, c.Context),
			fmt.Sprintf("kubectl --context %s get services -n %s", c.Context, namespace))
	} else if err != nil {
		return report, fmt.Errorf("export %s/%s: %w", namespace, name, err)
	}
	obj := newExport(namespace, name)
	_, err := c.Resource(obj).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		report.Changed, report.Message = true, "exported"
		_, err = c.Resource(obj).Create(ctx, obj, metav1.CreateOptions{FieldManager: cluster.FieldOwner})
		if apierrors.IsNotFound(err) {
			return report, withHint(fmt.Errorf("context %s does not know ServiceExport", c.Context), "isthmus install "+c.Context)
		}
	}
	if err != nil {
		return report, fmt.Errorf("export %s/%s in %s: %w", namespace, name, c.Context, err)
	}
	if !wait {
		return report, nil
	}
	err = waitExported(ctx, c, obj, &report)
	report.Ready = err == nil
	return report, err
}

// waitExported waits until the export is valid and this cluster has imported it.
func waitExported(ctx context.Context, c *cluster.Cluster, obj *unstructured.Unstructured, report *exportReport) error {
	var refused error
	err := cluster.Until(ctx, "export "+obj.GetName()+" in "+c.Context, func(ctx context.Context) (string, error) {
		found, err := c.Resource(obj).Get(ctx, obj.GetName(), metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		var export mcsv1beta1.ServiceExport
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found.Object, &export); err != nil {
			return "", err
		}
		if cond := meta.FindStatusCondition(export.Status.Conditions, string(mcsv1beta1.ServiceExportConditionValid)); cond != nil && cond.Status == metav1.ConditionFalse {
			refused = fmt.Errorf("export %s/%s is refused: %s: %s", obj.GetNamespace(), obj.GetName(), cond.Reason, cond.Message)
			return "", nil
		}
		cond := meta.FindStatusCondition(export.Status.Conditions, string(mcsv1beta1.ServiceExportConditionReady))
		switch {
		case cond == nil:
			return "the control plane has not taken it up yet", nil
		case cond.Status != metav1.ConditionTrue:
			return "it is not ready: " + cond.Reason + " " + cond.Message, nil
		}
		return missingImport(ctx, c, obj.GetNamespace(), obj.GetName(), report)
	})
	if err = errors.Join(refused, err); err != nil {
		return withHint(err, "isthmus status; kubectl --context "+c.Context+" -n "+api.SystemNamespace+" logs deploy/"+api.ControlPlaneName)
	}
	report.Message += ", ready"
	if len(report.Addresses) > 0 {
		report.Message += " at " + strings.Join(report.Addresses, ", ")
	}
	return nil
}

// missingImport says what an import in c lacks to be called, and notes its addresses.
func missingImport(ctx context.Context, c *cluster.Cluster, namespace, name string, report *exportReport) (string, error) {
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(mcsv1beta1.SchemeGroupVersion.WithKind("ServiceImport"))
	obj.SetNamespace(namespace)
	found, err := c.Resource(obj).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "no ServiceImport yet", nil
	}
	if err != nil {
		return "", err
	}
	kind, _, _ := unstructured.NestedString(found.Object, "spec", "type")
	ips, _, _ := unstructured.NestedStringSlice(found.Object, "spec", "ips")
	if kind != string(mcsv1beta1.Headless) && len(ips) == 0 {
		return "its ServiceImport has no address yet", nil
	}
	report.Addresses = ips
	return "", nil
}

func unexportOne(ctx context.Context, c *cluster.Cluster, namespace, name string, wait bool) (exportReport, error) {
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
