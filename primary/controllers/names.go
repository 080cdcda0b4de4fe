package controllers

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/eastwest"
	"github.com/isthmus-mesh/isthmus/federation"
)

// nameProblems says what of cluster's export of svc has no server name, so that
// no gateway can pass it on. svc may be nil.
func nameProblems(s *federation.Snapshot, cluster federation.ClusterName, svc *federation.Service) []federation.Problem {
	if svc == nil || !spansNetworks(s, cluster) {
		return nil
	}
	i := slices.IndexFunc(svc.Exports, func(e federation.Export) bool { return e.Cluster == cluster })
	if i < 0 {
		return nil
	}
	var long, wrong []string
	note := func(what string, err error) {
		switch {
		case errors.Is(err, eastwest.ErrNameTooLong):
			long = append(long, what+": "+err.Error())
		case err != nil:
			wrong = append(wrong, what+": "+err.Error())
		}
	}
	for _, number := range svc.Exports[i].Numbers {
		_, err := eastwest.SNI(svc.Key.Namespace, svc.Key.Name, number)
		note(fmt.Sprintf("port %d", number), err)
		if !svc.Headless {
			continue
		}
		for _, e := range farPods(svc, cluster) {
			_, err := eastwest.PodSNI(svc.Key.Namespace, svc.Key.Name, number, e.Pod, string(cluster))
			note(fmt.Sprintf("port %d of pod %s", number, e.Pod), err)
		}
	}
	return slices.Concat(nameProblem(reasonNameTooLong, long), nameProblem(reasonInvalidPodName, wrong))
}

// spansNetworks reports whether some cluster is on another network than cluster.
func spansNetworks(s *federation.Snapshot, cluster federation.ClusterName) bool {
	here := s.Cluster(cluster)
	return here != nil && slices.ContainsFunc(s.Clusters(), func(c *federation.Cluster) bool { return c.Network != here.Network })
}

// nameProblem names the first few of what other networks cannot reach.
func nameProblem(reason string, texts []string) []federation.Problem {
	if len(texts) == 0 {
		return nil
	}
	const most = 3
	message := "other networks cannot reach " + strings.Join(texts[:min(len(texts), most)], "; ")
	if len(texts) > most {
		message += fmt.Sprintf("; and %d more", len(texts)-most)
	}
	return []federation.Problem{{Reason: reason, Message: message}}
}
