package main

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

// A caller without rights, one cluster under two names, and no node that is ready are said together, each with what to do,
// before anything is changed.
func TestCheckClusters(t *testing.T) {
	env := testenv.Start(t, testenv.WithControllers())
	ns := env.Namespace(t)
	if _, err := env.Client(t).CoreV1().ServiceAccounts(ns).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "nobody"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	admin, err := cluster.New("admin", env.Config)
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := cluster.New("nobody", env.AccountConfig(t, ns, "nobody"))
	if err != nil {
		t.Fatal(err)
	}
	for text, targets := range map[string][]clusterset.Target{
		"nobody: rights: may not create namespaces":                                 {{Cluster: nobody}},
		"admin, admin: clusters: both contexts lead to the same cluster":            {{Cluster: admin}, {Cluster: admin}},
		"admin: nodes: none of 0 is ready\nnext: kubectl --context admin get nodes": {{Cluster: admin}},
	} {
		err := checkClusters(t.Context(), targets, install.Values{})
		if err == nil || !strings.HasPrefix(err.Error(), "nothing was changed: ") || !strings.Contains(describe(err), text) || hint(err) == "" {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := env.Client(t).CoreV1().Namespaces().Get(t.Context(), install.Namespace, metav1.GetOptions{}); err == nil {
		t.Error("something was changed")
	}
}
