package drilling

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/importview"
	"github.com/isthmus-mesh/isthmus/drill"
)

// Finding is what one safety check found.
type Finding struct {
	Text string `json:"text"`
	OK   bool   `json:"ok"`
	// Forcible says that --force goes on although it is not well.
	Forcible bool   `json:"forcible,omitempty"`
	Next     string `json:"next,omitempty"` // what can be done
	err      error  // the cause, where there is one
}

func (f Finding) String() string {
	switch {
	case f.OK:
		return "ok       " + f.Text
	case f.Forcible:
		return "UNSAFE   " + f.Text + " (--force goes on)"
	}
	return "REFUSED  " + f.Text
}

func fine(format string, args ...any) Finding {
	return Finding{OK: true, Text: fmt.Sprintf(format, args...)}
}

func refused(next, format string, args ...any) Finding {
	return Finding{Text: fmt.Sprintf(format, args...), Next: next}
}

func doubtful(next, format string, args ...any) Finding {
	return Finding{Text: fmt.Sprintf(format, args...), Next: next, Forcible: true}
}

// drillsFound refuses a second drill.
func (s *seen) drillsFound(ctx context.Context) Finding {
	for _, name := range sorted(s.members) {
		if err := drill.Refuse(ctx, s.members[name]); err != nil {
			return Finding{Text: err.Error(), Next: nextAfter(err, s.members[name].Context), err: err}
		}
	}
	return fine("no other drill is under way in %s", strings.Join(sorted(s.members), ", "))
}

// nextAfter says what can be done about another drill.
func nextAfter(err error, context string) string {
	restore := "isthmus drill restore --context " + context
	if errors.Is(err, drill.ErrAbandoned) {
		return restore
	}
	return "wait until it is over, or end it by Ctrl-C where it runs; if it crashed: " + restore
}

// linksFound refuses where the way to a cluster that matters is not well.
func (s *seen) linksFound(remote string) []Finding {
	var out []Finding
	for _, other := range s.others() {
		state := s.links[other]
		switch {
		case state == v1alpha1.LinkConnected:
			out = append(out, fine("the link from %s to %s is %s", s.home, other, state))
		case other == remote || remote == "":
			out = append(out, refused("isthmus check tells what is not well", "the link from %s to %s is %s, not %s", s.home, other, orUnknown(state), v1alpha1.LinkConnected))
		default:
			out = append(out, doubtful("isthmus check tells what is not well", "the link from %s to %s is %s, not %s", s.home, other, orUnknown(state), v1alpha1.LinkConnected))
		}
	}
	return out
}

func orUnknown(state v1alpha1.LinkState) v1alpha1.LinkState {
	if state == "" {
		return "not known"
	}
	return state
}

// capacityFound refuses where nobody would answer without lost, and doubts where fewer would.
func (s *seen) capacityFound(lost string) Finding {
	here, elsewhere := s.ready[lost], 0
	var where []string
	for _, name := range sorted(s.ready) {
		if n := s.ready[name]; name != lost && n > 0 && (name == s.home || s.links[name] == v1alpha1.LinkConnected) {
			elsewhere += n
			where = append(where, fmt.Sprintf("%d in %s", n, name))
		}
	}
	next := "isthmus export " + s.spec.Service + " in another cluster, or give it more replicas there; isthmus imports " + s.spec.Service + " shows what is ready"
	switch {
	case elsewhere == 0:
		return refused(next, "without %s nobody would answer for %s: %d ready endpoint(s) in %s, none elsewhere", lost, s.spec.Service, here, lost)
	case elsewhere < here:
		return doubtful(next, "fewer endpoints are ready elsewhere (%s) than would be lost in %s (%d)", strings.Join(where, ", "), lost, here)
	}
	return fine("without the %d endpoint(s) of %s, there are ready: %s", here, lost, strings.Join(where, ", "))
}

// onlyThere names imports that nobody but lost serves: they would be away, too.
func onlyThere(imports []importview.Import, lost, namespace, name string) []string {
	var out []string
	for _, i := range imports {
		if i.Namespace == namespace && i.Name == name || i.Endpoints(lost) == 0 {
			continue
		}
		if !slices.ContainsFunc(i.Exporters, func(e importview.Exporter) bool { return e.Cluster != lost && i.Endpoints(e.Cluster) > 0 }) {
			out = append(out, i.Namespace+"/"+i.Name)
		}
	}
	slices.Sort(out)
	return out
}

// dependentsFound doubts a loss that takes other services away, too.
func (s *seen) dependentsFound(lost string) Finding {
	names := onlyThere(s.imports, lost, s.namespace, s.name)
	if len(names) == 0 {
		return fine("no other service that %s imports is served by %s alone", s.home, lost)
	}
	return doubtful("export them in another cluster, too", "%s would lose what %s alone serves: %s", s.home, lost, few(names))
}

// sharedFound doubts a loss of pods that other services lead to.
func (s *seen) sharedFound(ctx context.Context, changes []drill.Change) Finding {
	names, err := drill.SharedWith(ctx, s.from, s.namespace, s.name, changes)
	switch {
	case err != nil:
		return refused("", "whether other services need these pods is not known: %v", err)
	case len(names) > 0:
		return doubtful("drill each of them in its turn, or give them deployments of their own", "the same pods serve %s of %s in %s", few(names), s.namespace, s.home)
	}
	return fine("no other service of %s leads to these pods", s.namespace)
}

// betweenFound refuses where the loss of a gateway would be seen by nobody.
func (s *seen) betweenFound(lost string) Finding {
	if s.near[lost] {
		return refused("possible between clusters of one network: "+strings.Join([]string{drill.ScenarioLocalEndpoints, drill.ScenarioAPIServer, drill.ScenarioControlPlane}, ", "),
			"%s and %s are on one network: requests go from one to the other without a gateway", s.home, lost)
	}
	return fine("between %s and %s is a gateway", s.home, lost)
}

// cutsFound refuses where the network is cut already: a restore would heal that, too.
func (s *seen) cutsFound(ctx context.Context) Finding {
	status, err := s.lab.Status(ctx)
	switch {
	case err != nil:
		return refused("", "what is cut in the sandbox is not known: %v", err)
	case len(status.Cuts) > 0:
		return refused("isthmus sandbox heal", "the sandbox's network is cut already (%d cuts), and the restore heals all", len(status.Cuts))
	}
	return fine("nothing is cut in the sandbox")
}

// few joins names, and counts what is too long.
func few(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
