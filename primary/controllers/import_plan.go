package controllers

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

// Labels and annotations of the MCS API.
const (
	labelServiceName   = mcsv1beta1.LabelServiceName
	labelSourceCluster = mcsv1beta1.LabelSourceCluster
	annotationDerived  = "multicluster.kubernetes.io/derived-service"
)

// importState is what the local cluster holds for one import; nil is absent.
type importState struct {
	NamespaceActive bool
	Import          *mcsv1beta1.ServiceImport
	Derived         *corev1.Service
	Slices          []discoveryv1.EndpointSlice
}

// importPlan is what it is to hold. The zero plan changes nothing.
type importPlan struct {
	Import  *mcsv1beta1.ServiceImport // without addresses: the derived Service gives them
	Derived *corev1.Service           // nil: none
	Slices  []*discoveryv1.EndpointSlice
	// Keep names clusters whose slices stay as they are, because nobody knows better.
	Keep map[federation.ClusterName]bool
	// Delete says that the import goes, and all that belongs to it.
	Delete bool
	// Stranger says that somebody else wrote the import, which nobody exports.
	Stranger bool
	// Families are what the import asks of the derived Service, in order of
	// preference; empty where it has no say.
	Families []string
	// NoFamily says that this cluster has none of them.
	NoFamily bool
	// NoService says that there is no derived Service, since it is refused.
	NoService bool
	// Notes are what users of the import should know while it is ready.
	Notes []federation.Problem
}

// planImport decides what import key is to look like in cluster local, which has
// these numbers for it. A cluster that is not read keeps its slices; an import is
// deleted only when every cluster that may export it has been asked.
func planImport(s *federation.Snapshot, local federation.ClusterName, key objectKey, have importState, nums given) importPlan {
	if own := s.Cluster(local); own == nil || !own.Read || !have.NamespaceActive {
		return importPlan{}
	}
	svc := importable(s, key)
	if svc == nil {
		return planRemoval(s, have)
	}
	plan := importPlan{
		Import:  wantImport(svc, key),
		Derived: wantDerived(svc, key, have.Import),
		Keep:    unasked(s),
		Notes:   nums.Short,
	}
	if !svc.Headless {
		plan.Families = declared(svc).Families
	}
	b := sliceBuilder{s: s, local: local, svc: svc, nums: nums}
	for i := range svc.Exports {
		export := &svc.Exports[i]
		switch {
		case export.Hidden:
		case export.Checkpoint || plan.Keep[export.Cluster]:
			plan.Keep[export.Cluster] = true
			if kept := b.refreshed(export, have.Slices); len(kept) > 0 {
				plan.Slices = append(plan.Slices, kept...)
				delete(plan.Keep, export.Cluster)
			}
		default:
			plan.Slices = append(plan.Slices, b.slices(export)...)
		}
	}
	if b.waitsForEntry() {
		plan.Notes = append(slices.Clone(plan.Notes), federation.Problem{Reason: "NoEntryGateway", Message: "pods without a sidecar cannot reach other networks until an entry gateway is ready"})
	}
	return plan
}

// unasked returns the clusters of which nobody knows better than what is written.
func unasked(s *federation.Snapshot) map[federation.ClusterName]bool {
	out := map[federation.ClusterName]bool{}
	for _, c := range s.Clusters() {
		if !c.Read && !c.Lost {
			out[c.Name] = true
		}
	}
	return out
}

// importable returns the service of import key, or nil where nobody exports it
// to this cluster. One whose exporters are all lost is still exported.
func importable(s *federation.Snapshot, key objectKey) *federation.Service {
	svc := s.Service(federation.ServiceKey{Namespace: key.Namespace, Name: key.Name})
	if svc == nil || len(svc.Exports) == 0 {
		return svc
	}
	if slices.ContainsFunc(svc.Exports, func(e federation.Export) bool { return !e.Hidden }) || svc.Declared != nil || len(svc.Ports) > 0 {
		return svc
	}
	return nil // gateways here pass it on to others
}

// planRemoval is for an import that nobody exports as far as is known.
func planRemoval(s *federation.Snapshot, have importState) importPlan {
	if !ours(have.Import) && have.Derived == nil && len(have.Slices) == 0 {
		return importPlan{Stranger: have.Import != nil && len(unasked(s)) == 0}
	}
	from := map[federation.ClusterName]bool{}
	for i := range have.Slices {
		from[sourceOf(&have.Slices[i])] = true
	}
	for _, c := range s.Clusters() {
		if !c.Read && (from[c.Name] || len(from) == 0) {
			return importPlan{}
		}
	}
	return importPlan{Delete: true}
}

// takeAddresses gives the import the addresses of its derived Service, nil where
// there can be none.
func (p *importPlan) takeAddresses(derived *corev1.Service) {
	if derived == nil {
		p.Derived, p.NoFamily = nil, true
		return
	}
	p.Import.Spec.IPFamilies = derived.Spec.IPFamilies
	if p.Import.Spec.Type == mcsv1beta1.ClusterSetIP {
		p.Import.Spec.IPs = derived.Spec.ClusterIPs
	}
	for _, f := range p.Families {
		if !slices.Contains(derived.Spec.IPFamilies, corev1.IPFamily(f)) {
			p.Notes = append(slices.Clone(p.Notes), federation.Problem{Reason: "FamilyMissing", Message: "this cluster has no " + f + " address for it"})
		}
	}
}

// keepAddresses gives the import the addresses that it has, because its derived
// Service could not be written.
func (p *importPlan) keepAddresses(have importState, refused bool) {
	if d := have.Derived; d != nil && canBecome(&d.Spec, &p.Derived.Spec) {
		p.takeAddresses(d)
		return
	}
	p.NoService = refused
	if ours(have.Import) && have.Import.Spec.Type == p.Import.Spec.Type {
		p.Import.Spec.IPs, p.Import.Spec.IPFamilies = have.Import.Spec.IPs, have.Import.Spec.IPFamilies
	}
}

func ours(i *mcsv1beta1.ServiceImport) bool {
	return i != nil && i.Labels[api.LabelManagedBy] == api.ManagedBy
}

func sourceOf(s *discoveryv1.EndpointSlice) federation.ClusterName {
	return federation.ClusterName(s.Labels[labelSourceCluster])
}

// derivedName is the name of the derived Service of import key.
func derivedName(key objectKey) string {
	sum := sha256.Sum256([]byte(key.Namespace + "/" + key.Name))
	return "isthmus-" + hex.EncodeToString(sum[:5])
}

// wantImport returns the import: what the exports declare, and our own labels.
func wantImport(svc *federation.Service, key objectKey) *mcsv1beta1.ServiceImport {
	d := declared(svc)
	out := &mcsv1beta1.ServiceImport{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: key.Name,
			Labels:      with(d.Labels, api.LabelManagedBy, api.ManagedBy),
			Annotations: with(d.Annotations, annotationDerived, derivedName(key)),
		},
		Spec: mcsv1beta1.ServiceImportSpec{Type: mcsv1beta1.ClusterSetIP, Ports: []mcsv1beta1.ServicePort{}},
	}
	if svc.Headless {
		out.Spec.Type = mcsv1beta1.Headless
	}
	for _, p := range d.Ports {
		port := mcsv1beta1.ServicePort{Name: p.Name, Protocol: corev1.Protocol(p.Transport), Port: int32(p.Number)}
		if p.AppProtocol != "" {
			port.AppProtocol = new(p.AppProtocol)
		}
		out.Spec.Ports = append(out.Spec.Ports, port)
	}
	out.Spec.SessionAffinity, out.Spec.SessionAffinityConfig = affinity(d)
	if d.InternalTrafficPolicy != "" {
		out.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicy(d.InternalTrafficPolicy))
	}
	if d.TrafficDistribution != "" {
		out.Spec.TrafficDistribution = new(d.TrafficDistribution)
	}
	return out
}

// declared returns what the exports of svc say; of those that say nothing
// beyond their TCP ports, these.
func declared(svc *federation.Service) *federation.Declared {
	if svc.Declared != nil {
		return svc.Declared
	}
	out := &federation.Declared{}
	for _, p := range svc.Ports {
		out.Ports = append(out.Ports, federation.DeclaredPort{Name: p.Name, Transport: string(corev1.ProtocolTCP), Number: p.Number})
	}
	return out
}

func affinity(d *federation.Declared) (corev1.ServiceAffinity, *corev1.SessionAffinityConfig) {
	if d.SessionAffinity != string(corev1.ServiceAffinityClientIP) {
		return corev1.ServiceAffinity(d.SessionAffinity), nil
	}
	if d.AffinitySeconds == 0 {
		return corev1.ServiceAffinityClientIP, nil
	}
	return corev1.ServiceAffinityClientIP, &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(d.AffinitySeconds)}}
}

// with returns a copy of m in which key has value.
func with(m map[string]string, key, value string) map[string]string {
	out := maps.Clone(m)
	if out == nil {
		out = map[string]string{}
	}
	out[key] = value
	return out
}
