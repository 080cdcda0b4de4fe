package ingest

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/mcs"
)

// What an API server checks is checked again, since what one cluster's API server
// lets through, ours would refuse in the objects that are made of it, and so keep
// the import from everybody. Reasons of Problems with what was dropped:
const (
	tooManyPorts     = "TooManyPorts" // nothing of the export is taken
	portsLeftOut     = "PortsLeftOut" // the import is full of older exports' ports
	invalidPort      = "InvalidPort"
	invalidSpec      = "InvalidServiceSpec"
	invalidCreation  = "InvalidCreationTime"
	invalidEndpoint  = "InvalidEndpoint"
	addressClaimed   = "AddressClaimed" // endpoints with another cluster's addresses
	mostSlicePorts   = 100              // of an EndpointSlice, as its API has it
	mostSliceMembers = 1000             // likewise
	mostAffinity     = 86400            // seconds (core/v1 ClientIPConfig)
)

// youngest is the age of an export whose creation time cannot be true.
func youngest() time.Time { return time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) }

// creation returns t, or youngest where t is missing, before there was Kubernetes
// or later than can be written: the oldest export decides for all clusters.
func creation(t time.Time) time.Time {
	if t.Year() < 2014 || t.After(youngest()) {
		return youngest()
	}
	return t.UTC()
}

// soundPorts returns those of a Service's ports that it can have, and what is
// wrong with the others.
func soundPorts(ports []mcs.Port) (out []mcs.Port, bad []string) {
	names, numbers := map[string]bool{}, map[mcs.Port]bool{}
	for _, p := range ports {
		number := mcs.Port{Transport: p.Transport, Number: p.Number}
		why := ""
		switch {
		case p.Number == 0:
			why = "the number is not 1 to 65535"
		case p.Transport != mcs.TCP && p.Transport != "UDP" && p.Transport != "SCTP":
			why = "the protocol is not TCP, UDP or SCTP"
		case p.Name != "" && len(validation.IsDNS1123Label(p.Name)) > 0:
			why = "the name is no DNS label"
		case names[p.Name] || numbers[number]:
			why = "the name or the number is another port's"
		case p.AppProtocol != "" && len(validation.IsQualifiedName(p.AppProtocol)) > 0:
			bad = append(bad, fmt.Sprintf("appProtocol of port %q: no qualified name, so it is not used", clip(p.Name)))
			p.AppProtocol = ""
		}
		if why != "" {
			bad = append(bad, fmt.Sprintf("port %q: %s, so it is left out", clip(p.Name), why))
			continue
		}
		names[p.Name], numbers[number] = true, true
		out = append(out, p)
	}
	return out, bad
}

// soundSpec returns spec without the values that no Service can have, and which
// those are.
func soundSpec(spec mcs.Spec) (out mcs.Spec, bad []string) {
	known := func(field, value string, values ...string) string {
		if value == "" || slices.Contains(values, value) {
			return value
		}
		bad = append(bad, fmt.Sprintf("%s %q", field, clip(value)))
		return ""
	}
	out = mcs.Spec{
		SessionAffinity:       known("sessionAffinity", spec.SessionAffinity, string(corev1.ServiceAffinityNone), string(corev1.ServiceAffinityClientIP)),
		InternalTrafficPolicy: known("internalTrafficPolicy", spec.InternalTrafficPolicy, string(corev1.ServiceInternalTrafficPolicyCluster), string(corev1.ServiceInternalTrafficPolicyLocal)),
		TrafficDistribution: known("trafficDistribution", spec.TrafficDistribution,
			corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode),
	}
	if s := spec.AffinitySeconds; s != 0 && (s < 0 || s > mostAffinity || out.SessionAffinity != string(corev1.ServiceAffinityClientIP)) {
		bad = append(bad, fmt.Sprintf("session affinity of %d seconds", s))
	} else {
		out.AffinitySeconds = s
	}
	for _, f := range spec.Families {
		if f = known("ipFamily", f, "IPv4", "IPv6"); f != "" && !slices.Contains(out.Families, f) {
			out.Families = append(out.Families, f)
		}
	}
	return out, bad
}

// sound drops from a cluster's export what no Service can have.
func (b *builder) sound(c *cluster, e *mcs.Export, n Name) {
	var bad []string
	if e.Ports, bad = soundPorts(e.Ports); len(bad) > 0 {
		b.problem(c.Name, kindExport, n, invalidPort, fmt.Sprintf("%d values of ports cannot be: %s", len(bad), bad[0]))
	}
	if e.Spec, bad = soundSpec(e.Spec); len(bad) > 0 {
		b.problem(c.Name, kindExport, n, invalidSpec, fmt.Sprintf("%d values of the Service cannot be and are not used: %s", len(bad), bad[0]))
	}
	if e.Since.Equal(youngest()) {
		b.problem(c.Name, kindExport, n, invalidCreation, "the creation time cannot be true, so all other exports count as older")
	}
}

// soundEndpoint returns e without what no EndpointSlice can say, and what that is.
func soundEndpoint(e SliceEndpoint) (out SliceEndpoint, bad string) {
	if e.Hostname != "" && !label(e.Hostname) {
		bad, e.Hostname = fmt.Sprintf("hostname %q is no DNS label", clip(e.Hostname)), ""
	}
	if len(validation.IsValidLabelValue(e.Zone)) > 0 {
		bad, e.Zone = fmt.Sprintf("zone %q is no label's value", clip(e.Zone)), ""
	}
	return e, bad
}

// labelValue returns s if a label can have that value, else nothing.
func labelValue(s string) string {
	if len(validation.IsValidLabelValue(s)) > 0 {
		return ""
	}
	return s
}

// leftOut tells an exporter which of its ports the import has no place for.
func (b *builder) leftOut(p exporting, n Name, merged mcs.Import) {
	var texts []string
	for _, port := range p.export.Ports {
		if slices.Contains(merged.LeftOut, mcs.Left{Cluster: p.c.Name, Transport: port.Transport, Number: port.Number}) {
			texts = append(texts, port.String())
		}
	}
	if len(texts) > 0 {
		b.problem(p.c.Name, kindExport, n, portsLeftOut, fmt.Sprintf("older exports fill the import's %d ports; %d are left out: %s", federation.MaxCheckpointPorts, len(texts), clip(texts[0])))
	}
}
