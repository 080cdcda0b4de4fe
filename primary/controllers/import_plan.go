package controllers

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
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
	if len(d.Families) > 1 {
		out.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyPreferDualStack) // as far as this cluster can
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

// portName is the port's name in the derived Service, where only a single port
// may go without.
func portName(d *federation.Declared, p federation.DeclaredPort) string {
	if p.Name == "" && len(d.Ports) > 1 {
		return fmt.Sprintf("port-%d", p.Number)
	}
	return p.Name
}

func sliceName(key federation.ServiceKey, cluster federation.ClusterName, i int) string {
	name := derivedName(objectKey{Namespace: key.Namespace, Name: key.Name}) + "-" + string(cluster)
	if i > 0 {
		name = fmt.Sprintf("%s-%d", name, i+1)
	}
	return name
}

// maxSlice is how many endpoints a slice may hold. (discovery.k8s.io/v1)
const maxSlice = 1000

// groupEndpoints splits endpoints so that each group has one address family and
// one set of ports. There is always a group, though it may be empty.
func groupEndpoints(endpoints []federation.Endpoint) [][]federation.Endpoint {
	groups := map[string][]federation.Endpoint{}
	for _, e := range endpoints {
		k := fmt.Sprint(e.Addr.Is6(), e.Ports, e.Others)
		groups[k] = append(groups[k], e)
	}
	var out [][]federation.Endpoint
	for _, k := range slices.Sorted(maps.Keys(groups)) {
		out = slices.AppendSeq(out, slices.Chunk(groups[k], maxSlice))
	}
	if len(out) == 0 {
		out = append(out, nil)
	}
	return out
}

func addressType(group []federation.Endpoint) discoveryv1.AddressType {
	if len(group) > 0 && group[0].Addr.Is6() {
		return discoveryv1.AddressTypeIPv6
	}
	return discoveryv1.AddressTypeIPv4
}

func slicePorts(svc *federation.Service, group []federation.Endpoint) []discoveryv1.EndpointPort {
	out := []discoveryv1.EndpointPort{}
	if len(group) == 0 {
		return out
	}
	d := declared(svc)
	for _, p := range d.Ports {
		target, ok := group[0].Other(p.Transport, p.Number)
		if p.Transport == string(corev1.ProtocolTCP) {
			target, ok = group[0].Target(p.Number)
		}
		if !ok {
			continue
		}
		port := discoveryv1.EndpointPort{Name: new(portName(d, p)), Protocol: new(corev1.Protocol(p.Transport)), Port: new(int32(target))}
		if p.AppProtocol != "" {
			port.AppProtocol = new(p.AppProtocol)
		}
		out = append(out, port)
	}
	return out
}

func sliceEndpoint(e *federation.Endpoint) discoveryv1.Endpoint {
	out := discoveryv1.Endpoint{
		Addresses: []string{e.Addr.String()},
		Conditions: discoveryv1.EndpointConditions{
			Ready: new(e.Health == federation.Ready), Serving: new(e.Health != federation.NotReady), Terminating: new(e.Health == federation.Terminating),
		},
	}
	if e.Hostname != "" {
		out.Hostname = new(e.Hostname)
	}
	if e.Locality.Zone != "" {
		out.Zone = new(e.Locality.Zone)
	}
	return out
}

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
