package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

// write brings the import to what plan says. The import is first, because all
// else is owned by it; then the Service, whose addresses become the import's.
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
	if plan.Derived != nil {
		derived, err := r.writeDerived(ctx, have.Derived, plan, owner)
		if err != nil && !errors.Is(err, errNoFamily) {
			return fmt.Errorf("derived service: %w", err)
		}
		plan.takeAddresses(derived)
	}
	if !sameImport(imp, plan.Import) {
		var err error
		if imp, err = r.writeImport(ctx, imp, plan.Import); err != nil {
			return fmt.Errorf("apply import: %w", err)
		}
	}
	if err := r.writeSlices(ctx, have.Slices, plan, owner); err != nil {
		return err
	}
	return r.writeImportStatus(ctx, imp, plan, have.Slices)
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

func (r *Imports) writeSlices(ctx context.Context, have []discoveryv1.EndpointSlice, plan importPlan, owner []metav1.OwnerReference) error {
	byName := map[string]*discoveryv1.EndpointSlice{}
	for i := range have {
		byName[have[i].Name] = &have[i]
	}
	for _, want := range plan.Slices {
		old := byName[want.Name]
		delete(byName, want.Name)
		if old != nil && sameSlice(old, want) {
			continue
		}
		if old != nil && old.AddressType != want.AddressType { // immutable
			if err := r.local.Delete(ctx, old); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("delete slice %s: %w", old.Name, err)
			}
		}
		want.OwnerReferences = owner
		if err := r.local.apply(ctx, want.DeepCopy()); err != nil {
			return fmt.Errorf("apply slice %s: %w", want.Name, err)
		}
	}
	for _, old := range byName {
		if plan.Keep[sourceOf(old)] {
			continue
		}
		if err := r.local.Delete(ctx, old); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete slice %s: %w", old.Name, err)
		}
	}
	return nil
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
	for _, o := range objs {
		if err := r.local.Delete(ctx, o); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete %T %s: %w", o, o.GetName(), err)
		}
	}
	return nil
}
