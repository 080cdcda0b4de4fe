package controllers

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func (r *Imports) writeDerived(ctx context.Context, have *corev1.Service, plan importPlan, owner []metav1.OwnerReference) (*corev1.Service, error) {
	want := plan.Derived
	if have != nil && !canBecome(&have.Spec, &want.Spec) {
		if err := r.local.Delete(ctx, have, client.Preconditions{UID: &have.UID}); client.IgnoreNotFound(err) != nil {
			return nil, err
		}
		have = nil
		if want.Spec.ClusterIP != corev1.ClusterIPNone {
			want.Spec.ClusterIP = ""
		}
	}
	if have != nil {
		if sameDerived(have, want) {
			return have, nil
		}
		if want.Spec.ClusterIP != corev1.ClusterIPNone {
			want.Spec.ClusterIP = have.Spec.ClusterIP
			want.Spec.IPFamilies = have.Spec.IPFamilies // the first cannot change
		}
	}
	want.OwnerReferences = owner
	if have == nil && want.Spec.ClusterIP == "" {
		return r.makeInFamilies(ctx, want, plan.Families)
	}
	if have == nil && want.Spec.ClusterIP != corev1.ClusterIPNone {
		return r.makeAgain(ctx, want, plan.Families)
	}
	out := want.DeepCopy()
	return out, r.local.apply(ctx, out)
}

// canBecome reports whether Kubernetes lets a Service change so: not between
// having an address and having none, nor to another first family.
func canBecome(have, want *corev1.ServiceSpec) bool {
	if (have.ClusterIP == corev1.ClusterIPNone) != (want.ClusterIP == corev1.ClusterIPNone) {
		return false
	}
	return len(want.IPFamilies) == 0 || len(have.IPFamilies) == 0 || have.IPFamilies[0] == want.IPFamilies[0]
}

// errNoFamily says that this cluster has none of an import's IP families.
var errNoFamily = errors.New("no ip family of the import is supported")

// makeInFamilies makes a derived Service with an address of each of these
// families, in their order, or of those that this cluster has.
func (r *Imports) makeInFamilies(ctx context.Context, want *corev1.Service, families []string) (*corev1.Service, error) {
	for _, try := range familyChoices(families) {
		out := want.DeepCopy()
		out.Spec.IPFamilies = try
		err := r.local.apply(ctx, out)
		if !refusedField(err, "spec.ipFamilies") {
			return out, err
		}
	}
	return nil, errNoFamily
}

// familyChoices lists what to ask for: all, else one at a time in their order;
// where nothing was declared, what the cluster likes best.
func familyChoices(families []string) [][]corev1.IPFamily {
	if len(families) == 0 {
		return [][]corev1.IPFamily{nil}
	}
	all := ipFamilies(families)
	out := [][]corev1.IPFamily{all}
	if len(all) > 1 {
		out = append(out, all[:1], all[1:])
	}
	return out
}

// refusedField reports whether the API server refuses a field, or part of it.
func refusedField(err error, field string) bool {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || !apierrors.IsInvalid(err) || status.Status().Details == nil {
		return false
	}
	return slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool { return strings.HasPrefix(c.Field, field) })
}

// makeAgain makes a derived Service with the address that the import has had. The
// API server tells of a deletion before it gives the address free, so one that is
// taken is asked for again, for two seconds, before another is used.
func (r *Imports) makeAgain(ctx context.Context, want *corev1.Service, families []string) (*corev1.Service, error) {
	const tries, pause = 20, 100 * time.Millisecond
	for n := 1; ; n++ {
		out := want.DeepCopy()
		err := r.local.apply(ctx, out)
		if refusedField(err, "spec.ipFamilies") {
			break
		}
		if !refusedField(err, "spec.clusterIP") { // nor spec.clusterIPs
			return out, err
		}
		if n == tries {
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r.log.Warn("the clusterset address cannot be had: another is used", "service", want.Namespace+"/"+want.Labels[labelServiceName], "address", want.Spec.ClusterIP)
	out := want.DeepCopy()
	out.Spec.ClusterIP, out.Spec.ClusterIPs = "", nil
	return r.makeInFamilies(ctx, out, families)
}
