package controllers

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/federation"
)

// conditionPrefix begins the types of conditions that are not the MCS API's: one
// for each reason, and True while it holds.
const conditionPrefix = "isthmus.dev/"

// Reasons of our own that are conditions by themselves, beside a text on Ready:
// the export is made, and something that its owner asked for does not hold.
const (
	reasonInvalidExportTo  = "InvalidExportTo" // nobody imports it
	reasonInvalidEntry     = "InvalidEntry"
	reasonInvalidLocalName = "InvalidLocalName"
	reasonNameTooLong      = "NameTooLong"
	reasonInvalidPodName   = "InvalidPodName"
	reasonEntryPortsUsedUp = "EntryPortsExhausted"
	reasonSyntheticUsedUp  = "SyntheticRangeExhausted"
	reasonObjectRefused    = "ObjectRefused" // by the API server, of what belongs to an import
)

// Reasons of ingest that are conditions by themselves: the export is made, without
// something that belongs to it.
const (
	reasonEndpointRefused  = "EndpointRefused"
	reasonAddressClaimed   = "AddressClaimed" // by another cluster of the network
	reasonInvalidMetadata  = "InvalidMetadata"
	reasonInvalidPort      = "InvalidPort"
	reasonInvalidSpec      = "InvalidServiceSpec"
	reasonInvalidEndpoint  = "InvalidEndpoint"
	reasonInvalidCreation  = "InvalidCreationTime"
	reasonPortsLeftOut     = "PortsLeftOut"
	reasonPortNotCarried   = "PortNotCarried"
	reasonTooManyPorts     = "TooManyPorts" // nobody imports it
	reasonTooManyEndpoints = "TooManyEndpoints"
)

func isOwnCondition(reason string) bool {
	switch reason {
	case reasonInvalidExportTo, reasonInvalidEntry, reasonInvalidLocalName, reasonNameTooLong, reasonInvalidPodName, reasonEntryPortsUsedUp, reasonSyntheticUsedUp,
		reasonObjectRefused, reasonEndpointRefused, reasonAddressClaimed, reasonInvalidMetadata, reasonInvalidPort, reasonInvalidSpec, reasonInvalidEndpoint,
		reasonInvalidCreation, reasonPortsLeftOut, reasonPortNotCarried, reasonTooManyPorts, reasonTooManyEndpoints:
		return true
	}
	return false
}

// ownConditions returns a condition for each reason of problems that has one,
// sorted by type.
func ownConditions(problems []federation.Problem) []metav1.Condition {
	byReason := map[string][]federation.Problem{}
	for _, p := range problems {
		if isOwnCondition(p.Reason) {
			byReason[p.Reason] = append(byReason[p.Reason], p)
		}
	}
	var out []metav1.Condition
	for _, reason := range slices.Sorted(maps.Keys(byReason)) {
		out = append(out, metav1.Condition{Type: conditionPrefix + reason, Status: metav1.ConditionTrue, Reason: reason, Message: messages(byReason[reason])})
	}
	return out
}

// own returns the conditions that we write, in our order.
func own(all []metav1.Condition) []metav1.Condition {
	var out []metav1.Condition
	for _, kind := range []mcsv1beta1.ServiceExportConditionType{mcsv1beta1.ServiceExportConditionValid, mcsv1beta1.ServiceExportConditionReady, mcsv1beta1.ServiceExportConditionConflict} {
		for _, c := range all {
			if c.Type == string(kind) {
				out = append(out, c)
			}
		}
	}
	ours := slices.DeleteFunc(slices.Clone(all), func(c metav1.Condition) bool { return !strings.HasPrefix(c.Type, conditionPrefix) })
	slices.SortFunc(ours, func(a, b metav1.Condition) int { return cmp.Compare(a.Type, b.Type) })
	return append(out, ours...)
}

// exportConditions returns Valid, Ready and Conflict of an export and what we add
// to them, or nil while too little is known to say.
func exportConditions(s *federation.Snapshot, cluster federation.ClusterName, have *mcsv1beta1.ServiceExport, problems []federation.Problem, now metav1.Time) []metav1.Condition {
	if c := s.Cluster(cluster); c == nil || !c.Read {
		return nil
	}
	svc := s.Service(federation.ServiceKey{Namespace: have.Namespace, Name: have.Name})
	problems = append(slices.Clone(problems), nameProblems(s, cluster, svc)...)
	var invalid, conflicts, notes []federation.Problem
	for _, p := range problems {
		switch {
		case isInvalid(p.Reason):
			invalid = append(invalid, p)
		case strings.HasSuffix(p.Reason, "Conflict"):
			conflicts = append(conflicts, p)
		default:
			notes = append(notes, p)
		}
	}
	exported := false
	if svc != nil {
		exported = slices.ContainsFunc(svc.Exports, func(e federation.Export) bool { return e.Cluster == cluster })
	}
	if len(invalid) == 0 && !exported {
		return pending(have, now)
	}
	out := append([]metav1.Condition{
		validCondition(invalid),
		readyCondition(invalid, notes),
		conflictCondition(conflicts),
	}, ownConditions(problems)...)
	for i := range out {
		out[i].ObservedGeneration = have.Generation
	}
	return withTimes(have.Status.Conditions, out, now)
}

// pending is for an export that is newer than the snapshot. One that has
// conditions keeps them for the moment.
func pending(have *mcsv1beta1.ServiceExport, now metav1.Time) []metav1.Condition {
	if len(own(have.Status.Conditions)) > 0 {
		return nil
	}
	return withTimes(nil, []metav1.Condition{{
		Type: string(mcsv1beta1.ServiceExportConditionReady), Status: metav1.ConditionUnknown,
		Reason: string(mcsv1beta1.ServiceExportReasonPending), ObservedGeneration: have.Generation,
	}}, now)
}

// isInvalid tells reasons for which nothing is exported.
func isInvalid(reason string) bool {
	switch reason {
	case string(mcsv1beta1.ServiceExportReasonNoService), string(mcsv1beta1.ServiceExportReasonInvalidServiceType), "InvalidName", "SystemNamespace", reasonInvalidExportTo, reasonTooManyPorts:
		return true
	}
	return false
}

func validCondition(invalid []federation.Problem) metav1.Condition {
	out := metav1.Condition{Type: string(mcsv1beta1.ServiceExportConditionValid), Status: metav1.ConditionTrue, Reason: string(mcsv1beta1.ServiceExportReasonValid)}
	if len(invalid) > 0 {
		out.Status, out.Reason, out.Message = metav1.ConditionFalse, invalid[0].Reason, messages(invalid)
	}
	return out
}

func readyCondition(invalid, notes []federation.Problem) metav1.Condition {
	out := metav1.Condition{
		Type: string(mcsv1beta1.ServiceExportConditionReady), Status: metav1.ConditionTrue,
		Reason: string(mcsv1beta1.ServiceExportReasonExported), Message: messages(notes),
	}
	if len(invalid) > 0 {
		out.Status, out.Reason, out.Message = metav1.ConditionFalse, string(mcsv1beta1.ServiceExportReasonFailed), messages(invalid)
	}
	return out
}

// conflictCondition joins several reasons by commas. (KEP-1645)
func conflictCondition(conflicts []federation.Problem) metav1.Condition {
	out := metav1.Condition{Type: string(mcsv1beta1.ServiceExportConditionConflict), Status: metav1.ConditionFalse, Reason: string(mcsv1beta1.ServiceExportReasonNoConflicts)}
	if len(conflicts) == 0 {
		return out
	}
	var reasons []string
	for _, p := range conflicts {
		if !slices.Contains(reasons, p.Reason) {
			reasons = append(reasons, p.Reason)
		}
	}
	out.Status, out.Reason, out.Message = metav1.ConditionTrue, strings.Join(reasons, ","), messages(conflicts)
	return out
}

// messages joins messages within the API server's limit for a condition.
func messages(problems []federation.Problem) string {
	sorted := slices.SortedFunc(slices.Values(problems), func(a, b federation.Problem) int { return cmp.Compare(a.Reason, b.Reason) })
	var texts []string
	for _, p := range sorted {
		texts = append(texts, p.Message)
	}
	text := strings.Join(texts, "; ")
	const most = 4096
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
