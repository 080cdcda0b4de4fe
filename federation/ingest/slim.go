package ingest

import (
	"maps"
	"net/netip"
	"slices"

	securityapi "istio.io/api/security/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/mcs"
)

// SlimService keeps what Build reads of a Service.
func SlimService(s *corev1.Service) *Service {
	out := &Service{
		Name:     Name{s.Namespace, s.Name},
		External: s.Spec.Type == corev1.ServiceTypeExternalName,
		Headless: s.Spec.ClusterIP == corev1.ClusterIPNone,
		IPs:      addresses(append(slices.Clone(s.Spec.ClusterIPs), s.Spec.ClusterIP)),
		Ports:    slimPorts(s.Spec.Ports),
		SameZone: sameZone(s.Spec.TrafficDistribution),
	}
	if s.Labels[api.LabelManagedBy] == api.ManagedBy {
		out.Import = s.Labels[mcsv1beta1.LabelServiceName]
	}
	out.Spec = mcsSpec(s)
	switch s.Labels[api.LabelGateway] {
	case api.GatewayEastWest:
		slimGateway(out, s)
	case api.GatewayEntry:
		out.Entry = true
	}
	return out
}

func slimGateway(out *Service, s *corev1.Service) {
	out.Gateway = true
	out.ByHand = s.Annotations[api.AnnotationGatewayAddresses]
	out.NodePort = s.Spec.Type == corev1.ServiceTypeNodePort
	for _, i := range s.Status.LoadBalancer.Ingress {
		if i.IP != "" {
			out.Balancers = append(out.Balancers, i.IP)
		} else if i.Hostname != "" {
			out.Balancers = append(out.Balancers, i.Hostname)
		}
	}
	out.Balancers = append(out.Balancers, s.Spec.ExternalIPs...)
	slices.Sort(out.Balancers)
}

func slimPorts(ports []corev1.ServicePort) []ServicePort {
	var out []ServicePort
	for _, p := range ports {
		slim := ServicePort{
			Port:     mcs.Port{Name: p.Name, Transport: string(p.Protocol), Number: number(p.Port)},
			NodePort: number(p.NodePort),
			Target:   p.TargetPort.String(),
		}
		if p.AppProtocol != nil {
			slim.AppProtocol = *p.AppProtocol
		}
		if slim.Transport == "" {
			slim.Transport = mcs.TCP
		}
		slim.Protocol = ParseProtocol(slim.Port)
		out = append(out, slim)
	}
	return out
}

// number returns a port's number, or 0 where it is none.
func number(n int32) uint16 {
	if n < 1 || n > 65535 {
		return 0
	}
	return uint16(n)
}

func mcsSpec(s *corev1.Service) mcs.Spec {
	spec := mcs.Spec{SessionAffinity: string(s.Spec.SessionAffinity)}
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		spec.AffinitySeconds = *c.ClientIP.TimeoutSeconds
	}
	if p := s.Spec.InternalTrafficPolicy; p != nil {
		spec.InternalTrafficPolicy = string(*p)
	}
	if d := s.Spec.TrafficDistribution; d != nil {
		spec.TrafficDistribution = *d
	}
	for _, f := range s.Spec.IPFamilies {
		spec.Families = append(spec.Families, string(f))
	}
	return spec
}

func sameZone(distribution *string) bool {
	if distribution == nil {
		return false
	}
	switch *distribution {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode:
		return true
	}
	return false
}

// SlimSlice keeps what Build reads of an EndpointSlice: nothing (nil) of one
// that holds names instead of addresses or belongs to no service, and no more of
// it than the API allows it to hold.
func SlimSlice(s *discoveryv1.EndpointSlice) *Slice {
	out := &Slice{Name: Name{s.Namespace, s.Name}, Service: s.Labels[discoveryv1.LabelServiceName]}
	if source := s.Labels[mcsv1beta1.LabelSourceCluster]; source != "" {
		if s.Labels[discoveryv1.LabelManagedBy] != api.ManagedBy {
			return nil // somebody else's import
		}
		out.Source, out.Since = federation.ClusterName(source), s.CreationTimestamp.UTC()
		out.Service = s.Labels[mcsv1beta1.LabelServiceName]
		slimCheckpoint(out, s.Annotations[api.AnnotationCheckpoint])
		slimEntryPorts(out, s.Annotations[api.AnnotationEntryPorts])
	}
	if out.Service == "" || s.AddressType == discoveryv1.AddressTypeFQDN {
		return nil
	}
	for _, p := range s.Ports[:min(len(s.Ports), mostSlicePorts)] {
		if p.Port == nil || *p.Port < 1 || *p.Port > 65535 {
			continue
		}
		if p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
			out.Others = append(out.Others, OtherPort{Name: text(p.Name), Transport: string(*p.Protocol), Number: uint16(*p.Port)})
			continue
		}
		slim := SlicePort{Number: uint16(*p.Port)}
		if p.Name != nil {
			slim.Name = *p.Name
		}
		out.Ports = append(out.Ports, slim)
	}
	for i := range s.Endpoints[:min(len(s.Endpoints), mostSliceMembers)] {
		e := slimEndpoint(&s.Endpoints[i])
		if out.Source != "" && heldBack(s.Endpoints[i].Conditions) {
			e.Health = federation.Ready
		}
		out.Endpoints = append(out.Endpoints, e)
	}
	return out
}

func slimCheckpoint(out *Slice, text string) {
	if text == "" {
		return
	}
	cp, err := federation.ParseCheckpoint(text)
	if err != nil {
		out.BadCheckpoint = err.Error()
		return
	}
	out.Checkpoint = &cp
}

func slimEntryPorts(out *Slice, text string) {
	if text == "" {
		return
	}
	ports, err := federation.ParseEntryPorts(text)
	if err != nil {
		out.BadEntryPorts = err.Error()
	}
	out.EntryPorts = ports
}

func slimEndpoint(e *discoveryv1.Endpoint) SliceEndpoint {
	var out SliceEndpoint
	if len(e.Addresses) > 0 { // the others are interchangeable with it
		addr, err := netip.ParseAddr(e.Addresses[0])
		if err != nil || addr.Zone() != "" {
			out.Bad = e.Addresses[0]
		} else {
			out.Addr = addr.Unmap()
		}
	}
	if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
		out.Pod = e.TargetRef.Name
	}
	out.Node, out.Zone, out.Hostname = text(e.NodeName), text(e.Zone), text(e.Hostname)
	out.Health = health(e.Conditions)
	return out
}

func health(c discoveryv1.EndpointConditions) federation.Health {
	ready := c.Ready == nil || *c.Ready
	serving := c.Serving == nil && ready || c.Serving != nil && *c.Serving
	terminating := c.Terminating != nil && *c.Terminating
	switch {
	case ready:
		return federation.Ready
	case serving && terminating:
		return federation.Terminating
	}
	return federation.NotReady
}

// heldBack reports whether an imported slice says of a pod that it is ready but
// not for callers without a sidecar, since its cluster is drained.
func heldBack(c discoveryv1.EndpointConditions) bool {
	says := func(b *bool, want bool) bool { return b != nil && *b == want }
	return says(c.Ready, false) && says(c.Serving, true) && says(c.Terminating, false)
}

// SlimPod keeps what Build reads of a Pod.
func SlimPod(p *corev1.Pod) *Pod {
	out := &Pod{
		Name:        Name{p.Namespace, p.Name},
		UID:         string(p.UID),
		Account:     p.Spec.ServiceAccountName,
		Node:        p.Spec.NodeName,
		HostNetwork: p.Spec.HostNetwork,
		Done:        p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed,
		Labels:      p.Labels,
	}
	if out.Account == "" {
		out.Account = "default"
	}
	out.Injected = p.Annotations[api.AnnotationInjected] != "" && !out.HostNetwork
	var ips []string
	for _, ip := range p.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	out.Addrs = addresses(append(ips, p.Status.PodIP))
	return out
}

// SlimNode keeps what Build reads of a Node.
func SlimNode(n *corev1.Node) *Node {
	out := &Node{Node: n.Name, Locality: federation.Locality{Region: labelValue(n.Labels[corev1.LabelTopologyRegion]), Zone: labelValue(n.Labels[corev1.LabelTopologyZone])}}
	byType := map[corev1.NodeAddressType][]string{}
	for _, a := range n.Status.Addresses {
		byType[a.Type] = append(byType[a.Type], a.Address)
	}
	out.All = addresses(slices.Concat(byType[corev1.NodeExternalIP], byType[corev1.NodeInternalIP]))
	out.Addrs = addresses(byType[corev1.NodeExternalIP])
	if len(out.Addrs) == 0 {
		out.Addrs = addresses(byType[corev1.NodeInternalIP])
	}
	for _, c := range append(slices.Clone(n.Spec.PodCIDRs), n.Spec.PodCIDR) {
		if prefix, err := netip.ParsePrefix(c); err == nil && !slices.Contains(out.CIDRs, prefix.Masked()) {
			out.CIDRs = append(out.CIDRs, prefix.Masked())
		}
	}
	return out
}

// SlimNamespace keeps what Build reads of a Namespace.
func SlimNamespace(n *corev1.Namespace) *Namespace {
	out := &Namespace{Namespace: n.Name, UID: string(n.UID), Network: n.Annotations[api.AnnotationNetwork], Refused: n.Labels[api.LabelEntry] == api.EntryRefuse}
	if out.Network == "" {
		out.Network = n.Labels[api.LabelTopologyNetwork]
	}
	var err error
	if out.Drain, err = federation.ParseDrain(n.Annotations[api.AnnotationDrain]); err != nil {
		out.BadDrain = err.Error()
	}
	return out
}

// SlimExport keeps what Build reads of a ServiceExport.
func SlimExport(e *mcsv1beta1.ServiceExport) *Export {
	return &Export{
		Name:        Name{e.Namespace, e.Name},
		Since:       creation(e.CreationTimestamp.Time),
		Labels:      maps.Clone(e.Spec.ExportedLabels),
		Annotations: maps.Clone(e.Spec.ExportedAnnotations),
		Terms:       slimTerms(e.Annotations),
	}
}

// SlimImport keeps what Build reads of a ServiceImport.
func SlimImport(i *mcsv1beta1.ServiceImport) *Import {
	return &Import{Name: Name{i.Namespace, i.Name}, IPs: addresses(i.Spec.IPs)}
}

// SlimPolicy keeps what Build reads of a PeerAuthentication.
func SlimPolicy(p *securityv1.PeerAuthentication) *Policy {
	out := &Policy{Name: Name{p.Namespace, p.Name}, Since: p.CreationTimestamp.UTC(), Mode: mode(p.Spec.GetMtls())}
	out.Selector = maps.Clone(p.Spec.GetSelector().GetMatchLabels())
	for port, m := range p.Spec.GetPortLevelMtls() {
		if out.Ports == nil {
			out.Ports = map[uint32]Mode{}
		}
		out.Ports[port] = mode(m)
		if port == 0 || port > 65535 {
			out.Bad = "portLevelMtls names a port outside 1 to 65535"
		}
	}
	return out
}

func mode(m *securityapi.PeerAuthentication_MutualTLS) Mode {
	switch m.GetMode() {
	case securityapi.PeerAuthentication_MutualTLS_DISABLE:
		return ModeDisable
	case securityapi.PeerAuthentication_MutualTLS_PERMISSIVE:
		return ModePermissive
	case securityapi.PeerAuthentication_MutualTLS_STRICT:
		return ModeStrict
	}
	return ModeUnset
}

// addresses parses what is an IP address and drops the rest and repetitions.
func addresses(texts []string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		if a, err := netip.ParseAddr(t); err == nil && !slices.Contains(out, a.Unmap()) {
			out = append(out, a.Unmap())
		}
	}
	return out
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
