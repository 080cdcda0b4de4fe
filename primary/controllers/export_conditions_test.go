package controllers

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/federation"
)

// conditions tells conditions in words: type=status/reason, with a note of those
// that have a message.
func conditions(all []metav1.Condition) string {
	var out []string
	for _, c := range all {
		text := fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason)
		if c.Message != "" {
			text += "!"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

// What an export's annotations get wrong, and names that no gateway can carry, are
// conditions of our own; those of the MCS API keep their reasons.
func TestOwnConditions(t *testing.T) {
	have := &mcsv1beta1.ServiceExport{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "reviews", Generation: 3}}
	two := []*federation.Cluster{cluster("east", "net1"), cluster("west", "net2")}
	one := []*federation.Cluster{cluster("east", "net1"), cluster("west", "net1")}
	problem := func(reason string) federation.Problem {
		return federation.Problem{Object: federation.ObjectRef{Cluster: "east", Kind: "ServiceExport", Namespace: "shop", Name: "reviews"}, Reason: reason, Message: "about " + reason}
	}
	headless := func(pods ...string) *federation.Service {
		svc := reviews([]federation.Export{export("east")})
		svc.Headless = true
		for i, pod := range pods {
			e := endpoint(t, "east", "net1", fmt.Sprintf("10.1.0.%d", i+1), true)
			e.Pod = pod
			svc.Endpoints = append(svc.Endpoints, e)
		}
		return svc
	}
	for name, test := range map[string]struct {
		snapshot *federation.Snapshot
		problems []federation.Problem
		want     string
	}{
		"all is well": {snapshot(two, reviews([]federation.Export{export("east")})), nil, "Valid=True/Valid Ready=True/Exported Conflict=False/NoConflicts"},
		"nobody may import it": {
			snapshot(two), []federation.Problem{problem("InvalidExportTo")},
			"Valid=False/InvalidExportTo! Ready=False/Failed! Conflict=False/NoConflicts isthmus.dev/InvalidExportTo=True/InvalidExportTo!",
		},
		"two annotations are wrong": {
			snapshot(two, reviews([]federation.Export{export("east")})), []federation.Problem{problem("InvalidLocalName"), problem("InvalidEntry"), problem("PortConflict")},
			"Valid=True/Valid Ready=True/Exported! Conflict=True/PortConflict! isthmus.dev/InvalidEntry=True/InvalidEntry! isthmus.dev/InvalidLocalName=True/InvalidLocalName!",
		},
		"what ingest leaves out": {
			snapshot(two, reviews([]federation.Export{export("east")})), []federation.Problem{
				problem("EndpointRefused"), problem("InvalidMetadata"), problem("PortNotCarried"), problem("AddressClaimed"), problem("TooManyEndpoints"),
			},
			"Valid=True/Valid Ready=True/Exported! Conflict=False/NoConflicts isthmus.dev/AddressClaimed=True/AddressClaimed! isthmus.dev/EndpointRefused=True/EndpointRefused! " +
				"isthmus.dev/InvalidMetadata=True/InvalidMetadata! isthmus.dev/PortNotCarried=True/PortNotCarried! isthmus.dev/TooManyEndpoints=True/TooManyEndpoints!",
		},
		"more ports than an export may have": {
			snapshot(two), []federation.Problem{problem("TooManyPorts")},
			"Valid=False/TooManyPorts! Ready=False/Failed! Conflict=False/NoConflicts isthmus.dev/TooManyPorts=True/TooManyPorts!",
		},
		"a pod's name is too long": {
			snapshot(two, headless("db-0", strings.Repeat("d", 64))), nil,
			"Valid=True/Valid Ready=True/Exported! Conflict=False/NoConflicts isthmus.dev/NameTooLong=True/NameTooLong!",
		},
		"a pod's name has a dot": {
			snapshot(two, headless("db.0")), nil, "Valid=True/Valid Ready=True/Exported! Conflict=False/NoConflicts isthmus.dev/InvalidPodName=True/InvalidPodName!",
		},
		"on one network no name is needed": {
			snapshot(one, headless("db-0", strings.Repeat("d", 64))), nil, "Valid=True/Valid Ready=True/Exported Conflict=False/NoConflicts",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := exportConditions(test.snapshot, "east", have, test.problems, fixed())
			if conditions(got) != test.want {
				t.Errorf("got  %s\nwant %s", conditions(got), test.want)
			}
			for _, c := range got {
				if c.ObservedGeneration != 3 || c.LastTransitionTime.IsZero() {
					t.Errorf("condition %+v", c)
				}
			}
			if again := own(got); conditions(again) != test.want {
				t.Errorf("read back: %s", conditions(again))
			}
		})
	}
}

func TestNameProblemsAreFew(t *testing.T) {
	svc := reviews([]federation.Export{export("east")})
	svc.Headless = true
	for i := range 50 {
		e := endpoint(t, "east", "net1", fmt.Sprintf("10.1.0.%d", i+1), true)
		e.Pod = fmt.Sprintf("%s-%d", strings.Repeat("d", 70), i)
		svc.Endpoints = append(svc.Endpoints, e)
	}
	got := nameProblems(snapshot([]*federation.Cluster{cluster("east", "net1"), cluster("west", "net2")}, svc), "east", svc)
	if len(got) != 1 || !strings.HasSuffix(got[0].Message, "and 47 more") || len(got[0].Message) > 1000 {
		t.Errorf("%+v", got)
	}
}
