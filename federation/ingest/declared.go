package ingest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/mcs"
)

// maxMetadata is how many bytes of labels and of annotations one export may
// give to imports, which carry more than that.
const maxMetadata = 64 << 10

// declared says what an export or an import says beside what proxies use.
func declared(ports []mcs.Port, spec mcs.Spec, labels, annotations map[string]string) *federation.Declared {
	out := &federation.Declared{
		SessionAffinity: spec.SessionAffinity, AffinitySeconds: spec.AffinitySeconds, InternalTrafficPolicy: spec.InternalTrafficPolicy,
		TrafficDistribution: spec.TrafficDistribution, Families: spec.Families, Labels: labels, Annotations: annotations,
	}
	for _, p := range ports {
		out.Ports = append(out.Ports, federation.DeclaredPort{Name: p.Name, Transport: p.Transport, Number: p.Number, AppProtocol: p.AppProtocol})
	}
	return out
}

// remember fills an export with what a checkpoint knows. One of an older
// version knows TCP ports only.
func remember(e *mcs.Export, cp *federation.Checkpoint) {
	defer func() { e.Ports, _ = soundPorts(e.Ports); e.Spec, _ = soundSpec(e.Spec) }()
	d := cp.Declared
	if d == nil {
		for _, p := range cp.Ports {
			e.Ports = append(e.Ports, mcs.Port{Name: p.Name, Transport: mcs.TCP, Number: p.Number, AppProtocol: appProtocol(p.Protocol)})
		}
		return
	}
	e.Spec = mcs.Spec{
		SessionAffinity: d.SessionAffinity, AffinitySeconds: d.AffinitySeconds, InternalTrafficPolicy: d.InternalTrafficPolicy,
		TrafficDistribution: d.TrafficDistribution, Families: d.Families,
	}
	e.Labels, _ = accepted(d.Labels, validLabel)
	e.Annotations, _ = accepted(d.Annotations, validAnnotation)
	for _, p := range d.Ports {
		e.Ports = append(e.Ports, mcs.Port{Name: p.Name, Transport: p.Transport, Number: p.Number, AppProtocol: p.AppProtocol})
	}
}

// importOthers maps a cluster's own ports that are not TCP to those of the import.
func importOthers(own []mcs.Port, merged mcs.Import) otherMap {
	out := otherMap{}
	for _, p := range own {
		if o, ok := mcs.Resolve(merged.Ports, p); ok && p.Transport != mcs.TCP && o.Transport == p.Transport {
			out[p.Name] = federation.DeclaredPort{Name: o.Name, Transport: o.Transport, Number: o.Number}
		}
	}
	return out
}

// rememberedPorts maps the names of ports in our own slices, which are those of
// the import or, where it has none among several, "port-NUMBER".
func rememberedPorts(merged mcs.Import) (portMap, otherMap) {
	ports, others := portMap{}, otherMap{}
	for _, p := range merged.Ports {
		for _, name := range slices.Compact([]string{p.Name, cmp.Or(p.Name, fmt.Sprintf("port-%d", p.Number))}) {
			if p.Transport == mcs.TCP {
				ports[name] = append(ports[name], p.Number)
			} else {
				others[name] = federation.DeclaredPort{Name: p.Name, Transport: p.Transport, Number: p.Number}
			}
		}
	}
	return ports, others
}

// notCarried tells the owner of a service with other ports than TCP that
// clusters on other networks cannot reach these.
func (b *builder) notCarried(p exporting, n Name) {
	var texts []string
	for _, port := range p.export.Ports {
		if port.Transport != mcs.TCP {
			texts = append(texts, port.String())
		}
	}
	if len(texts) == 0 {
		return
	}
	for _, network := range b.networks {
		if network != b.networks[p.c.Name] {
			slices.Sort(texts)
			b.problem(p.c.Name, kindExport, n, "PortNotCarried", "clusters on other networks cannot reach ports that are not TCP: "+strings.Join(texts, ", "))
			return
		}
	}
}

// metadata returns what an export gives to imports, without what an API server
// would refuse, so that one bad label does not keep the import from everybody.
func (b *builder) metadata(c *cluster, e *Export) (labels, annotations map[string]string) {
	labels, bad := accepted(e.Labels, validLabel)
	annotations, more := accepted(e.Annotations, validAnnotation)
	if bad = append(bad, more...); len(bad) > 0 {
		b.problem(c.Name, kindExport, e.Name, "InvalidMetadata", fmt.Sprintf("%d exported labels and annotations are left out: %s", len(bad), bad[0]))
	}
	return labels, annotations
}

func validLabel(value string) []string { return validation.IsValidLabelValue(value) }

func validAnnotation(string) []string { return nil }

func accepted(in map[string]string, check func(value string) []string) (out map[string]string, bad []string) {
	left := maxMetadata
	for _, key := range slices.Sorted(maps.Keys(in)) {
		value := in[key]
		why := slices.Concat(validation.IsQualifiedName(key), check(value))
		if reservedKey(key) {
			why = append(why, "the name is reserved")
		}
		if left -= len(key) + len(value); left < 0 {
			why = append(why, fmt.Sprintf("all together are longer than %d bytes", maxMetadata))
		}
		if len(why) > 0 {
			bad = append(bad, fmt.Sprintf("%q: %s", clip(key), why[0]))
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[key] = value
	}
	return out, bad
}

// reservedKey reports whether a label means something to controllers of imports.
func reservedKey(key string) bool {
	prefix, _, _ := strings.Cut(key, "/")
	return key == api.LabelManagedBy || prefix == "multicluster.kubernetes.io" || prefix == "isthmus.dev" || strings.HasSuffix(prefix, ".isthmus.dev")
}

func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
