package controllers

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/isthmus-mesh/isthmus/federation"
)

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
