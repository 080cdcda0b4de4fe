package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

// writeImportStatus says who exports, and that the import can be used.
func (r *Imports) writeImportStatus(ctx context.Context, imp *mcsv1beta1.ServiceImport, plan importPlan, had []discoveryv1.EndpointSlice) error {
	want := wantImportStatus(imp, plan, had, metav1.Now())
	if equality.Semantic.DeepEqual(imp.Status.Clusters, want.Clusters) && imp.Status.EndpointSliceObjects == want.EndpointSliceObjects && equality.Semantic.DeepEqual(own(imp.Status.Conditions), want.Conditions) {
		return nil
	}
	out := &mcsv1beta1.ServiceImport{ObjectMeta: metav1.ObjectMeta{Namespace: imp.Namespace, Name: imp.Name}, Status: want}
	if err := r.local.applyStatus(ctx, out); err != nil {
		return fmt.Errorf("apply import status: %w", err)
	}
	return nil
}

func wantImportStatus(imp *mcsv1beta1.ServiceImport, plan importPlan, had []discoveryv1.EndpointSlice, now metav1.Time) mcsv1beta1.ServiceImportStatus {
	names := map[string]bool{}
	for _, s := range plan.Slices {
		names[string(s.Labels[labelSourceCluster])] = true
	}
	for i := range had {
		if source := sourceOf(&had[i]); plan.Keep[source] {
			names[string(source)] = true
		}
	}
	out := mcsv1beta1.ServiceImportStatus{EndpointSliceObjects: mcsv1beta1.EndpointSliceObjectsPresent}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out.Clusters = append(out.Clusters, mcsv1beta1.ClusterStatus{Cluster: name})
	}
	ready := metav1.Condition{
		Type: string(mcsv1beta1.ServiceImportConditionReady), Status: metav1.ConditionTrue,
		Reason: string(mcsv1beta1.ServiceImportReasonReady), ObservedGeneration: imp.Generation, Message: messages(plan.Notes),
	}
	switch {
	case plan.NoFamily:
		ready.Status, ready.Reason = metav1.ConditionFalse, string(mcsv1beta1.ServiceImportReasonIPFamilyNotSupported)
		ready.Message = "this cluster supports none of its IP families: " + strings.Join(plan.Families, ", ")
	case plan.NoService:
		ready.Status, ready.Reason = metav1.ConditionFalse, string(mcsv1beta1.ServiceImportReasonPending)
	case plan.Derived == nil:
		ready.Status, ready.Reason = metav1.ConditionFalse, string(mcsv1beta1.ServiceImportReasonPending)
		ready.Message = "no exporting cluster has a port"
	}
	conditions := append([]metav1.Condition{ready}, ownConditions(plan.Notes)...)
	for i := range conditions {
		conditions[i].ObservedGeneration = imp.Generation
	}
	out.Conditions = withTimes(imp.Status.Conditions, conditions, now)
	return out
}

// withTimes gives each condition the time since which its status holds.
func withTimes(old, want []metav1.Condition, now metav1.Time) []metav1.Condition {
	for i := range want {
		want[i].LastTransitionTime = now
		for _, o := range old {
			if o.Type == want[i].Type && o.Status == want[i].Status && !o.LastTransitionTime.IsZero() {
				want[i].LastTransitionTime = o.LastTransitionTime
			}
		}
	}
	return want
}
