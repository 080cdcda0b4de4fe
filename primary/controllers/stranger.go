package controllers

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/federation"
)

// writeStranger says of an import that somebody else wrote, and that no cluster
// exports, that nobody answers for it. What he wrote stays.
func (r *Imports) writeStranger(ctx context.Context, imp *mcsv1beta1.ServiceImport) error {
	want := withTimes(imp.Status.Conditions, []metav1.Condition{{
		Type: string(mcsv1beta1.ServiceImportConditionReady), Status: metav1.ConditionFalse, Reason: string(mcsv1beta1.ServiceImportReasonPending),
		Message: "no cluster exports a service of this name; only isthmusd writes ServiceImports: export the service, or delete this import", ObservedGeneration: imp.Generation,
	}}, metav1.Now())
	if equality.Semantic.DeepEqual(own(imp.Status.Conditions), want) {
		return nil
	}
	out := &mcsv1beta1.ServiceImport{ObjectMeta: metav1.ObjectMeta{Namespace: imp.Namespace, Name: imp.Name}}
	out.Status.Conditions = want
	if err := r.local.applyStatus(ctx, out); err != nil {
		return fmt.Errorf("apply status of somebody else's import: %w", err)
	}
	return nil
}

// tookBack tells the owner of a namespace that an import that he wrote is ours
// now. What cannot be told is logged.
func (r *Imports) tookBack(ctx context.Context, key objectKey, imp *mcsv1beta1.ServiceImport) {
	p := federation.Problem{
		Object: federation.ObjectRef{Cluster: r.cluster, Kind: "ServiceImport", Namespace: key.Namespace, Name: key.Name},
		Reason: "TakenBack", Message: "the service is exported, so isthmusd replaced this import, which somebody else had written",
	}
	about := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{UID: imp.UID}}
	about.SetGroupVersionKind(problemKinds()["ServiceImport"].WithKind("ServiceImport"))
	at := eventKey(p)
	if err := r.local.apply(ctx, event(at, p, about, metav1.Now())); err != nil {
		r.log.Warn("write event", "object", key.String(), "err", err)
	}
}
