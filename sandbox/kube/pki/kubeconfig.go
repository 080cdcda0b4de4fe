package pki

import (
	"encoding/base64"
	"fmt"
	"os"
)

// Kubeconfig returns a kubeconfig with one context, all of it named name, that
// reaches server as user in groups.
func (a *Authority) Kubeconfig(name, server, user string, groups ...string) ([]byte, error) {
	pair, err := a.Client(user, groups...)
	if err != nil {
		return nil, err
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: %[1]s
clusters:
- name: %[1]s
  cluster:
    server: %[2]s
    certificate-authority-data: %[3]s
users:
- name: %[1]s
  user:
    client-certificate-data: %[4]s
    client-key-data: %[5]s
contexts:
- name: %[1]s
  context:
    cluster: %[1]s
    user: %[1]s
`, name, server, b64(a.PEM()), b64(pair.Cert), b64(pair.Key)), nil
}

// WriteKubeconfig writes what Kubeconfig returns to path, for the owner alone.
func (a *Authority) WriteKubeconfig(path, name, server, user string, groups ...string) error {
	data, err := a.Kubeconfig(name, server, user, groups...)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}
