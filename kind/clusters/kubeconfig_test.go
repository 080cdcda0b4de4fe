package clusters

import (
	"testing"

	"sigs.k8s.io/yaml"
)

// fromKind is what kind writes, shortened.
const fromKind = `apiVersion: v1
kind: Config
clusters:
- cluster: {certificate-authority-data: Y2E=, server: "https://127.0.0.1:40285"}
  name: kind-east
contexts:
- context: {cluster: kind-east, user: kind-east}
  name: kind-east
current-context: kind-east
users:
- name: kind-east
  user: {client-certificate-data: Y2VydA==, client-key-data: a2V5}
`

// Contexts are named as the clusters; credentials stay; the inner address is where isthmus link looks for it.
func TestJoin(t *testing.T) {
	all := kubeconfig{APIVersion: "v1", Kind: "Config", CurrentContext: "east"}
	if err := all.join("east", fromKind, "https://172.18.0.2:6443"); err != nil {
		t.Fatal(err)
	}
	got, err := yaml.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	const want = `apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Y2E=
    extensions:
    - extension: https://172.18.0.2:6443
      name: isthmus.dev/internal-server
    server: https://127.0.0.1:40285
  name: east
contexts:
- context:
    cluster: east
    user: east
  name: east
current-context: east
kind: Config
users:
- name: east
  user:
    client-certificate-data: Y2VydA==
    client-key-data: a2V5
`
	if string(got) != want {
		t.Errorf("got:\n%s", got)
	}
}

func TestJoinRefuses(t *testing.T) {
	for _, text := range []string{"", "clusters: []", "clusters: [{name: a}]\nusers: [{name: a}]", ": :"} {
		if err := new(kubeconfig).join("east", text, ""); err == nil {
			t.Errorf("%q gave no error", text)
		}
	}
}
