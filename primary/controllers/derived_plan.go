package controllers

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

// wantDerived returns the Service whose address is the clusterset IP. One that
// is made anew asks for the address that the import had.
func wantDerived(svc *federation.Service, key objectKey, had *mcsv1beta1.ServiceImport) *corev1.Service {
	d := declared(svc)
	if len(d.Ports) == 0 && !svc.Headless {
		return nil
	}
	out := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: derivedName(key),
			Labels: map[string]string{api.LabelManagedBy: api.ManagedBy, labelServiceName: key.Name},
		},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP},
	}
	for _, p := range d.Ports {
		out.Spec.Ports = append(out.Spec.Ports, corev1.ServicePort{
			Name: portName(d, p), Protocol: corev1.Protocol(p.Transport), Port: int32(p.Number), TargetPort: intstr.FromInt32(int32(p.Number)),
		})
	}
	if !svc.Headless {
		out.Spec.SessionAffinity, out.Spec.SessionAffinityConfig = affinity(d)
	}
	if len(d.Families) > 1 && ours(had) && len(had.Spec.IPs) > 0 && !svc.Headless {
		out.Spec.ClusterIPs = had.Spec.IPs
	}
	switch {
	case len(d.Families) > 1:
		out.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyPreferDualStack) // as far as this cluster can
	case svc.Headless: // without a selector it has both, unless it says otherwise
		out.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicySingleStack)
	}
	if svc.Headless { // has whichever it names, since it needs no address
		out.Spec.IPFamilies = ipFamilies(d.Families)
	}
	if svc.SameZone {
		out.Spec.TrafficDistribution = new(corev1.ServiceTrafficDistributionPreferClose)
	}
	switch {
	case svc.Headless:
		out.Spec.ClusterIP = corev1.ClusterIPNone
	case ours(had) && len(had.Spec.IPs) > 0:
		out.Spec.ClusterIP = had.Spec.IPs[0]
	}
	return out
}

// ipFamilies returns the first two, which are all that there can be.
func ipFamilies(names []string) []corev1.IPFamily {
	var out []corev1.IPFamily
	for _, f := range names[:min(len(names), 2)] {
		out = append(out, corev1.IPFamily(f))
	}
	return out
}

// portName is the port's name in the derived Service, where only a single port
// may go without.
func portName(d *federation.Declared, p federation.DeclaredPort) string {
	if p.Name == "" && len(d.Ports) > 1 {
		return fmt.Sprintf("port-%d", p.Number)
	}
	return p.Name
}
