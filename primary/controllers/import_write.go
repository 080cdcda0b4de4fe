package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/federation"
)

// write brings the import to what plan says. The import is first, because all
// else is owned by it; then the Service, whose addresses become the import's. What
// fails of one object holds up no other: the error joins all, and what the API
// server refuses is told on the import.
func (r *Imports) write(ctx context.Context, key objectKey, have importState, plan importPlan) error {
	imp := have.Import
	if imp == nil || !ours(imp) {
		made, err := r.writeImport(ctx, imp, plan.Import)
		if err != nil {
			return fmt.Errorf("make import: %w", err)
		}
		if imp = made; have.Import != nil {
			r.tookBack(ctx, key, imp)
		}
		r.log.Info("import made", "service", key.String(), "taken_back", have.Import != nil)
	}
	owner := []metav1.OwnerReference{{APIVersion: mcsv1beta1.GroupVersion.String(), Kind: "ServiceImport", Name: imp.Name, UID: imp.UID, Controller: new(true)}}
	var failed failures
	if plan.Derived != nil {
		derived, err := r.writeDerived(ctx, have.Derived, plan, owner)
		switch {
		case err == nil || errors.Is(err, errNoFamily):
			plan.takeAddresses(derived)
		default:
			failed.note("derived service", plan.Derived.Name, err)
			plan.keepAddresses(have, refuses(err))
		}
	}
	if !sameImport(imp, plan.Import) {
		if now, err := r.writeImport(ctx, imp, plan.Import); err != nil {
			failed.note("import", key.Name, err)
		} else {
			imp = now
		}
	}
	r.writeSlices(ctx, have.Slices, plan, owner, &failed)
	plan.Notes = append(slices.Clone(plan.Notes), failed.refused...)
	return errors.Join(failed.err, r.writeImportStatus(ctx, imp, plan, have.Slices))
}

// failures are what of an import could not be written.
type failures struct {
	err     error
	refused []federation.Problem // of these, what the API server refuses as it is
}

func (f *failures) note(kind, name string, err error) {
	f.err = errors.Join(f.err, fmt.Errorf("%s %s: %w", kind, name, err))
	if refuses(err) {
		f.refused = append(f.refused, federation.Problem{Reason: reasonObjectRefused, Message: fmt.Sprintf("the API server refuses the %s %s: %v", kind, name, err)})
	}
}

// refuses reports whether err is the API server's word on an object: the same
// again would be refused again.
func refuses(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err) || apierrors.IsRequestEntityTooLargeError(err)
}

// writeImport writes an import. What somebody else has put into its spec and an
// apply leaves there is taken out.
func (r *Imports) writeImport(ctx context.Context, have, want *mcsv1beta1.ServiceImport) (*mcsv1beta1.ServiceImport, error) {
	out := want.DeepCopy()
	if err := r.local.apply(ctx, out); err != nil || have == nil || equality.Semantic.DeepEqual(out.Spec, want.Spec) {
		return out, err
	}
	spec, err := json.Marshal([]map[string]any{{"op": "replace", "path": "/spec", "value": want.Spec}})
	if err != nil {
		return nil, err
	}
	err = r.local.Patch(ctx, out, client.RawPatch(types.JSONPatchType, spec), client.FieldOwner(FieldOwner))
	return out, err
}

// writeSlices writes what differs. Slices where somebody is ready come first: when
// callers are sent elsewhere, there is no moment in which nobody is.
func (r *Imports) writeSlices(ctx context.Context, have []discoveryv1.EndpointSlice, plan importPlan, owner []metav1.OwnerReference, failed *failures) {
	byName := map[string]*discoveryv1.EndpointSlice{}
	for i := range have {
		byName[have[i].Name] = &have[i]
	}
	for _, want := range readyFirst(plan.Slices) {
		old := byName[want.Name]
		delete(byName, want.Name)
		if old != nil && sameSlice(old, want) {
			continue
		}
		if old != nil && old.AddressType != want.AddressType { // immutable
			if err := r.local.Delete(ctx, old); client.IgnoreNotFound(err) != nil {
				failed.note("slice", old.Name, err)
				continue
			}
		}
		want.OwnerReferences = owner
		if err := r.local.apply(ctx, want.DeepCopy()); err != nil {
			failed.note("slice", want.Name, err)
		}
	}
	for _, old := range byName {
		if plan.Keep[sourceOf(old)] {
			continue
		}
		if err := r.local.Delete(ctx, old); client.IgnoreNotFound(err) != nil {
			failed.note("slice", old.Name, err)
		}
	}
}

func readyFirst(all []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	out := slices.Clone(all)
	slices.SortStableFunc(out, func(a, b *discoveryv1.EndpointSlice) int {
		switch ready := anyReady(a); {
		case ready == anyReady(b):
			return 0
		case ready:
			return -1
		}
		return 1
	})
	return out
}

func anyReady(s *discoveryv1.EndpointSlice) bool {
	return slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return e.Conditions.Ready == nil || *e.Conditions.Ready })
}

// remove deletes the import; what it owns goes with it, but is deleted here too,
// because not every cluster's garbage collector is quick.
func (r *Imports) remove(ctx context.Context, have importState) error {
	var objs []client.Object
	if ours(have.Import) {
		objs = append(objs, have.Import)
		r.log.Info("import removed", "service", client.ObjectKeyFromObject(have.Import).String())
	}
	if have.Derived != nil {
		objs = append(objs, have.Derived)
	}
	for i := range have.Slices {
		objs = append(objs, &have.Slices[i])
	}
	var failed error
	for _, o := range objs {
		if err := r.local.Delete(ctx, o); client.IgnoreNotFound(err) != nil {
			failed = errors.Join(failed, fmt.Errorf("delete %T %s: %w", o, o.GetName(), err))
		}
	}
	return failed
}
