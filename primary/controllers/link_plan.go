package controllers

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/remote/registry"
)

// judgeAfter is how long a control plane listens before it says of a cluster
// that did not answer yet that it does not.
const judgeAfter = 10 * time.Second

// lastReachableStep is how stale LastReachable may be while a cluster answers:
// a status that changed with each probe would wake everybody who watches it.
const lastReachableStep = time.Minute

// linkFacts is all that a link's status is made of.
type linkFacts struct {
	Cluster    string
	Generation int64
	Started    time.Time        // when this control plane began to ask
	Remote     *registry.Status // nil: no secret that leads there
	Refused    string           // why the secret was refused, where Remote is nil

	Known              bool // the cluster has been read, or a checkpoint tells of it
	SameNetwork        bool
	Network            string
	Exports, Endpoints int32
	Gateways           map[string]probeState // by address; of another network only

	Drain    *federation.Drain // as the snapshot has it
	KeptAway bool              // that was asked for on the link
	BadDrain error             // what the link asks for cannot be read
	Read     bool              // the cluster has been read since this control plane began
}

// linkStatus is the state machine of a link: from what was written last and what
// is known now, to what is to be written. Times are kept while what they date
// stays.
func linkStatus(prev v1alpha1.ClusterLinkStatus, f linkFacts, now time.Time) v1alpha1.ClusterLinkStatus {
	out := v1alpha1.ClusterLinkStatus{
		Network: f.Network, Exports: f.Exports, Endpoints: f.Endpoints, LastReachable: prev.LastReachable,
		ServerVersion: prev.ServerVersion, Server: prev.Server, Gateways: gatewayStatuses(f.Gateways), Drain: prev.Drain,
	}
	if f.Read && !f.KeptAway {
		out.Drain = f.Drain.String()
	}
	if out.Network == "" {
		out.Network = prev.Network
	}
	if f.Remote != nil {
		out.Server, out.Fault = f.Remote.Server, f.Remote.Fault
		if f.Remote.ServerVersion != "" {
			out.ServerVersion = f.Remote.ServerVersion
		}
	}
	conditions := []metav1.Condition{secretCondition(f), reachableCondition(prev, f, now), syncedCondition(f), gatewayCondition(f), drainCondition(f)}
	for i := range conditions {
		conditions[i].ObservedGeneration = f.Generation
	}
	out.Conditions = withTimes(prev.Conditions, conditions, *timeOf(now))
	out.State = linkState(prev.State, out, f)
	out.Message = withFault(linkMessage(out, f), out.Fault)
	out.Since = timeOf(now)
	if prev.State == out.State && prev.Since != nil {
		out.Since = prev.Since
	}
	out.LastReachable = lastReachable(prev, out, f, now)
	return out
}

func secretCondition(f linkFacts) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionSecretValid, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted}
	switch {
	case f.Remote == nil && f.Refused != "":
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonRefused, f.Refused
	case f.Remote == nil:
		c.Status, c.Reason, c.Message = metav1.ConditionUnknown, v1alpha1.ReasonUnknown, "there is no remote secret for this cluster"
	case !f.Remote.Accepted:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonRefused, f.Remote.RefusedReason
	}
	return c
}

func reachableCondition(prev v1alpha1.ClusterLinkStatus, f linkFacts, now time.Time) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionReachable}
	switch {
	case f.Remote != nil && f.Remote.Reachable:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonAnswered
	case f.Remote != nil && f.Remote.LastReachable.IsZero() && now.Sub(f.Started) < judgeAfter:
		// Too early to say: what was last known holds.
		if old := meta.FindStatusCondition(prev.Conditions, c.Type); old != nil {
			return *old
		}
		c.Status, c.Reason = metav1.ConditionUnknown, v1alpha1.ReasonUnknown
	default:
		c.Status, c.Reason = metav1.ConditionFalse, v1alpha1.ReasonNoAnswer
		if f.Remote != nil {
			c.Message = f.Remote.Message
		}
	}
	return c
}

func syncedCondition(f linkFacts) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionSynced, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonListing}
	if f.Remote != nil && f.Remote.Synced {
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonListed
	}
	if f.Remote != nil {
		c.Message = f.Remote.Trouble
	}
	return c
}

func gatewayCondition(f linkFacts) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionGatewayAnswers}
	answering, known := 0, 0
	for _, g := range f.Gateways {
		if !g.Silent {
			answering++
		}
		if g.known || g.Silent {
			known++
		}
	}
	switch {
	case !f.Known:
		c.Status, c.Reason = metav1.ConditionUnknown, v1alpha1.ReasonUnknown
	case f.SameNetwork:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonNotNeeded
	case len(f.Gateways) == 0:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonNoGateway, "the cluster names no address of its east-west gateway"
	case known == 0:
		c.Status, c.Reason = metav1.ConditionUnknown, v1alpha1.ReasonUnknown
	case answering > 0:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonAnswered
		if answering < len(f.Gateways) {
			c.Message = fmt.Sprintf("%d of %d addresses answer", answering, len(f.Gateways))
		}
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonNoAnswer, "no address of its east-west gateway answers"
	}
	return c
}

func drainCondition(f linkFacts) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionDraining, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonInUse}
	if f.Drain != nil {
		c.Status = metav1.ConditionTrue
		switch f.Drain.Stage {
		case federation.Draining:
			c.Reason, c.Message = v1alpha1.ReasonDraining, "its endpoints are used only where nobody else is left"
		case federation.Drained:
			c.Reason, c.Message = v1alpha1.ReasonDrained, "its endpoints are used only where nobody else is left; traffic was seen to have left"
		case federation.Returning:
			c.Reason, c.Message = v1alpha1.ReasonReturning, fmt.Sprintf("it is given %d per cent of its usual share", f.Drain.Share)
		}
		if f.KeptAway {
			c.Message += "; asked for on this link"
		}
	}
	if f.BadDrain != nil {
		c.Reason, c.Message = v1alpha1.ReasonInvalidDrain, fmt.Sprintf("annotation isthmus.dev/drain of this link: %v", f.BadDrain)
	}
	return c
}

// linkState is design.md's table. What is not known yet leaves a link in the
// state it was in: a new one is pending until its gateway has been probed, and
// one that was connected stays so while a new leader looks around.
func linkState(prev v1alpha1.LinkState, s v1alpha1.ClusterLinkStatus, f linkFacts) v1alpha1.LinkState {
	bad := func(kind string) bool { return meta.IsStatusConditionFalse(s.Conditions, kind) }
	reached := s.LastReachable != nil || f.Remote != nil && (f.Remote.Reachable || !f.Remote.LastReachable.IsZero())
	unreachable, silent := bad(v1alpha1.ConditionReachable), bad(v1alpha1.ConditionGatewayAnswers)
	switch {
	case bad(v1alpha1.ConditionSecretValid) && (unreachable || !reached || f.Remote == nil):
		return v1alpha1.LinkRefused
	case !reached:
		return v1alpha1.LinkPending
	case unreachable && silent:
		return v1alpha1.LinkLost
	case unreachable:
		return v1alpha1.LinkStale
	case !f.Known:
		if prev == "" || prev == v1alpha1.LinkRefused {
			return v1alpha1.LinkPending
		}
		return prev
	case meta.IsStatusConditionPresentAndEqual(s.Conditions, v1alpha1.ConditionGatewayAnswers, metav1.ConditionUnknown) && fresh(prev):
		return v1alpha1.LinkPending
	case silent:
		return v1alpha1.LinkDegraded
	}
	return v1alpha1.LinkConnected
}

// fresh reports whether a link was never up.
func fresh(prev v1alpha1.LinkState) bool {
	return prev == "" || prev == v1alpha1.LinkPending || prev == v1alpha1.LinkRefused
}

// linkMessage says what is wrong and what to do, in one sentence.
func linkMessage(s v1alpha1.ClusterLinkStatus, f linkFacts) string {
	message := func(kind string) string {
		if c := meta.FindStatusCondition(s.Conditions, kind); c != nil {
			return c.Message
		}
		return ""
	}
	because := func(text, kind string) string {
		if m := message(kind); m != "" {
			return text + ": " + m
		}
		return text
	}
	switch s.State {
	case v1alpha1.LinkRefused:
		return because("the remote secret was refused; run isthmus link again", v1alpha1.ConditionSecretValid)
	case v1alpha1.LinkPending:
		switch {
		case f.Remote == nil:
			return "there is no remote secret for this cluster; run isthmus link"
		case f.Remote.Reachable && f.Known:
			return "its gateway is being probed"
		case f.Remote.Reachable:
			return because("its objects are being read", v1alpha1.ConditionSynced)
		}
		return because("the API server at "+s.Server+" was never reached", v1alpha1.ConditionReachable)
	case v1alpha1.LinkStale:
		return because("the API server at "+s.Server+" does not answer; the last known endpoints are served", v1alpha1.ConditionReachable)
	case v1alpha1.LinkLost:
		return because("neither the API server at "+s.Server+" nor a gateway answers; its endpoints go when the lease ends", v1alpha1.ConditionReachable)
	case v1alpha1.LinkDegraded:
		return because("its endpoints are used only when nothing else is left", v1alpha1.ConditionGatewayAnswers)
	}
	if m := message(v1alpha1.ConditionSecretValid); m != "" {
		return "the new remote secret was refused and the old one is in use: " + m
	}
	return message(v1alpha1.ConditionSynced)
}

// withFault says in front of a message that a drill is the cause.
func withFault(message, fault string) string {
	if fault == "" {
		return message
	}
	drill := map[string]string{"refuse": "a drill has its API server refuse", "drop": "a drill has its API server answer nothing"}[fault]
	if message == "" {
		return drill
	}
	return drill + ": " + message
}

// lastReachable moves in steps while all is well, and is exact when it is not.
func lastReachable(prev, out v1alpha1.ClusterLinkStatus, f linkFacts, now time.Time) *metav1.Time {
	if f.Remote == nil || f.Remote.LastReachable.IsZero() {
		return prev.LastReachable
	}
	seen := timeOf(f.Remote.LastReachable)
	old := prev.LastReachable
	switch {
	case old == nil:
		return seen
	case seen.Before(old):
		return old
	case f.Remote.Reachable && prev.State == out.State && seen.Sub(old.Time) < lastReachableStep:
		return old
	}
	return seen
}

func gatewayStatuses(gateways map[string]probeState) []v1alpha1.GatewayStatus {
	var out []v1alpha1.GatewayStatus
	for _, address := range slices.Sorted(maps.Keys(gateways)) {
		out = append(out, gateways[address].status(address))
	}
	return out
}

// timeOf cuts t to what the API server keeps.
func timeOf(t time.Time) *metav1.Time {
	return new(metav1.NewTime(t.UTC().Truncate(time.Second)))
}
