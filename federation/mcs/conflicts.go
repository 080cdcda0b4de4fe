package mcs

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A property is a field on which exports may disagree: the reason of such a
// conflict, the field's name and its value as text.
type property struct {
	reason, field string
	value         func(Export) string
}

func properties() []property {
	return []property{
		{PortConflict, "ports", func(e Export) string { return portsText(e.Ports) }},
		{TypeConflict, "type", typeText},
		{SessionAffinityConflict, "sessionAffinity", func(e Export) string { return or(e.Spec.SessionAffinity, "None") }},
		{SessionAffinityConfigConflict, "sessionAffinityConfig", affinityText},
		{InternalTrafficPolicyConflict, "internalTrafficPolicy", func(e Export) string { return or(e.Spec.InternalTrafficPolicy, "Cluster") }},
		{TrafficDistributionConflict, "trafficDistribution", func(e Export) string { return or(e.Spec.TrafficDistribution, "none") }},
		{IPFamilyConflict, "ipFamilies", familiesText},
		{LabelsConflict, "exportedLabels", func(e Export) string { return mapText(e.Labels) }},
		{AnnotationsConflict, "exportedAnnotations", func(e Export) string { return mapText(e.Annotations) }},
	}
}

// conflicts compares every export with the first, which won.
func conflicts(sorted []Export) []Conflict {
	var out []Conflict
	for _, p := range properties() {
		winner, disagree := p.value(sorted[0]), 0
		for _, e := range sorted[1:] {
			if p.value(e) != winner {
				disagree++
			}
		}
		if disagree > 0 {
			out = append(out, Conflict{p.reason, fmt.Sprintf("%s differ: %s of cluster %s, the oldest export, is used; %d of %d clusters disagree",
				p.field, clip(winner), sorted[0].Cluster, disagree, len(sorted))})
		}
	}
	return out
}

func typeText(e Export) string {
	if e.Headless {
		return "Headless"
	}
	return "ClusterSetIP"
}

func affinityText(e Export) string {
	if e.Spec.SessionAffinity != "ClientIP" {
		return "none"
	}
	return fmt.Sprintf("%ds", e.Spec.AffinitySeconds)
}

func familiesText(e Export) string {
	families := slices.Sorted(slices.Values(e.Spec.Families))
	return or(strings.Join(families, ","), "IPv4")
}

func portsText(ports []Port) string {
	sorted := slices.SortedFunc(slices.Values(ports), comparePorts)
	texts := make([]string, len(sorted))
	for i, p := range sorted {
		texts[i] = p.String()
	}
	return or(strings.Join(texts, ", "), "none")
}

func mapText(m map[string]string) string {
	var texts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		texts = append(texts, k+"="+m[k])
	}
	return "{" + strings.Join(texts, ", ") + "}"
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// clip keeps messages well below the API server's limit for conditions.
func clip(s string) string {
	const most = 512
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
