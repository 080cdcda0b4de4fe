package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

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
