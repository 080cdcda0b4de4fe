package controllers

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
)

// sameSlice reports whether have says what want says.
func sameSlice(have, want *discoveryv1.EndpointSlice) bool {
	for k, v := range want.Labels {
		if have.Labels[k] != v {
			return false
		}
	}
	return have.AddressType == want.AddressType &&
		have.Annotations[api.AnnotationCheckpoint] == want.Annotations[api.AnnotationCheckpoint] &&
		have.Annotations[api.AnnotationEntryPorts] == want.Annotations[api.AnnotationEntryPorts] &&
		equality.Semantic.DeepEqual(have.Endpoints, want.Endpoints) &&
		equality.Semantic.DeepEqual(have.Ports, want.Ports)
}

// sameDerived reports whether have needs no write to be want.
func sameDerived(have, want *corev1.Service) bool {
	for k, v := range want.Labels {
		if have.Labels[k] != v {
			return false
		}
	}
	byNumber := func(a, b corev1.ServicePort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	}
	a, b := slices.SortedFunc(slices.Values(have.Spec.Ports), byNumber), slices.SortedFunc(slices.Values(want.Spec.Ports), byNumber)
	return equality.Semantic.DeepEqual(a, b) && len(have.Spec.Selector) == 0 && len(have.OwnerReferences) > 0 &&
		sameAffinity(&have.Spec, &want.Spec) && (want.Spec.IPFamilyPolicy == nil || equality.Semantic.DeepEqual(have.Spec.IPFamilyPolicy, want.Spec.IPFamilyPolicy)) &&
		(len(want.Spec.IPFamilies) == 0 || slices.Equal(have.Spec.IPFamilies, want.Spec.IPFamilies)) &&
		equality.Semantic.DeepEqual(have.Spec.TrafficDistribution, want.Spec.TrafficDistribution)
}

// sameAffinity compares what want says, not what the API server filled in.
func sameAffinity(have, want *corev1.ServiceSpec) bool {
	if cmp.Or(have.SessionAffinity, corev1.ServiceAffinityNone) != cmp.Or(want.SessionAffinity, corev1.ServiceAffinityNone) {
		return false
	}
	return want.SessionAffinityConfig == nil || equality.Semantic.DeepEqual(have.SessionAffinityConfig, want.SessionAffinityConfig)
}

// sameImport reports whether have needs no write to be want. Somebody else's
// label or annotation makes it differ: the write then changes nothing.
func sameImport(have, want *mcsv1beta1.ServiceImport) bool {
	if !ours(have) || !maps.Equal(have.Labels, want.Labels) || !maps.Equal(have.Annotations, want.Annotations) {
		return false
	}
	return equality.Semantic.DeepEqual(have.Spec, want.Spec)
}
