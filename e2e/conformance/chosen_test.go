//go:build conformance

package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
)

func chosenSpecs() []spec {
	to := func(clusters int) func(*fixture) { // as many of the clusters as that, from the first
		return func(f *fixture) {
			f.export.Annotations[api.AnnotationExportTo] = strings.Join(f.names()[:clusters], ",")
		}
	}
	return slices.Concat(
		fromBoth(spec{Name: "an export to chosen clusters is for them only, and can be widened", Section: "2", run: chosen, setUp: to(1)}),
		[]spec{
			{Name: "an export to all clusters by name is imported everywhere", Section: "2", run: ofType(mcsv1beta1.ClusterSetIP), setUp: to(2)},
			{Name: "an export to what is no cluster's name is refused", Section: "2", run: badChoice, setUp: func(f *fixture) {
				f.export.Annotations[api.AnnotationExportTo] = "No_Cluster"
			}},
			{Name: "the callee refuses clusters that were not chosen", Section: "2", Networks: oneNetwork, run: calleeRefuses, setUp: func(f *fixture) {
				calls(plainCaller)(f)
				to(1)(f)
				f.meshed = true
			}},
		},
	)
}

func (f *fixture) names() []string {
	var out []string
	for _, c := range f.clusters {
		out = append(out, c.name)
	}
	return out
}

func chosen(f *fixture) {
	pod := f.podAddresses(f.clusters[0], 1)[0]
	f.ready(f.clusters[0])
	f.answersIn(f.clusters[0], f.call("-w 3 "), contains("pod ip "+pod))
	f.throughout("nothing is there for others", func(ctx context.Context) error { return f.nothing(ctx, f.clusters[1]) })
	f.answersIn(f.clusters[1], "nslookup "+f.name(), isNXDOMAIN)
	f.annotate(f.clusters[0], api.AnnotationExportTo, f.clusters[1].name)
	f.answers(f.call("-w 3 "), contains("pod ip "+pod)) // the own cluster is always chosen
	f.annotate(f.clusters[0], api.AnnotationExportTo, f.clusters[0].name)
	f.eventually("others lose it again", func(ctx context.Context) error { return f.nothing(ctx, f.clusters[1]) })
	f.answersIn(f.clusters[0], f.call("-w 3 "), contains("pod ip "+pod))
}

// nothing wants no import and no imported slice.
func (f *fixture) nothing(ctx context.Context, c *cluster) error {
	if err := c.Get(ctx, f.key(helloName), &mcsv1beta1.ServiceImport{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("%s: the import is there (%v)", c.name, err)
	}
	list, err := f.slices(ctx, c)
	if err == nil && len(list) > 0 {
		return fmt.Errorf("%s: %d slices", c.name, len(list))
	}
	return err
}

func badChoice(f *fixture) {
	f.condition(f.clusters[0], mcsv1beta1.ServiceExportConditionValid, metav1.ConditionFalse, "No_Cluster")
	f.throughout("no import", func(ctx context.Context) error {
		for _, c := range f.clusters {
			if err := f.nothing(ctx, c); err != nil {
				return err
			}
		}
		return nil
	})
}

// calleeRefuses goes to the pod's own address, past all that the importing side
// decides. The chosen cluster's plain pods are served: mTLS is not demanded.
func calleeRefuses(f *fixture) {
	pod := f.podAddresses(f.clusters[0], 1)[0]
	line := "echo hi | nc -w 2 " + pod + " 42"
	f.answersIn(f.clusters[0], line, contains("pod ip "+pod))
	f.answersIn(f.clusters[1], times(5, line), silent)
	f.annotate(f.clusters[0], api.AnnotationExportTo, "")
	f.answersIn(f.clusters[1], line, contains("pod ip "+pod))
}
