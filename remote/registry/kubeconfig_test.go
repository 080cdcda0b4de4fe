package registry

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"encoding/base64"
	"encoding/pem"
)

// goodCA is a certificate in the form that kubeconfigs hold it.
func goodCA(t testing.TB) string {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

func kubeconfigText(server, cluster, user string) string {
	return `apiVersion: v1
kind: Config
current-context: west
clusters:
- name: west
  cluster:
    server: ` + server + "\n" + cluster + `
contexts:
- name: west
  context: {cluster: west, user: west}
users:
- name: west
  user:
` + user + "\n"
}

func TestParseKubeconfig(t *testing.T) {
	ca := "    certificate-authority-data: " + goodCA(t)
	token := "    token: secret"
	const server = "https://192.0.2.1:6443"
	for name, c := range map[string]struct {
		text  string
		wants string // in the error; "" is none
	}{
		"good":                  {kubeconfigText(server, ca, token), ""},
		"good by name":          {kubeconfigText("https://api.west.example:6443/k8s/c-1", ca, token), ""},
		"exec":                  {kubeconfigText(server, ca, token+"\n    exec: {apiVersion: v1, command: sh}"), "users[0].user.exec"},
		"auth provider":         {kubeconfigText(server, ca, token+"\n    auth-provider: {name: gcp}"), "users[0].user.auth-provider"},
		"token file":            {kubeconfigText(server, ca, "    tokenFile: /var/run/secrets/token"), "users[0].user.tokenFile"},
		"client certificate":    {kubeconfigText(server, ca, token+"\n    client-certificate: /x"), "client-certificate"},
		"client key":            {kubeconfigText(server, ca, token+"\n    client-key: /x"), "client-key"},
		"password":              {kubeconfigText(server, ca, token+"\n    username: u\n    password: p"), "username"},
		"impersonation":         {kubeconfigText(server, ca, token+"\n    as: system:admin"), "users[0].user.as"},
		"impersonated groups":   {kubeconfigText(server, ca, token+"\n    as-groups: [system:masters]"), "users[0].user.as"},
		"skip verify":           {kubeconfigText(server, ca+"\n    insecure-skip-tls-verify: true", token), "insecure-skip-tls-verify"},
		"ca file":               {kubeconfigText(server, "    certificate-authority: /etc/passwd", token), "clusters[0].cluster.certificate-authority"},
		"proxy":                 {kubeconfigText(server, ca+"\n    proxy-url: http://192.0.2.9:3128", token), "proxy-url"},
		"unknown field":         {kubeconfigText(server, ca, token+"\n    execute: sh"), "unknown field"},
		"twice":                 {kubeconfigText(server, ca, token+"\n    token: other"), "read kubeconfig"},
		"http":                  {kubeconfigText("http://192.0.2.1:6443", ca, token), "only https"},
		"loopback":              {kubeconfigText("https://127.0.0.1:6443", ca, token), "loopback"},
		"loopback 6":            {kubeconfigText("https://[::1]:6443", ca, token), "loopback"},
		"mapped loopback":       {kubeconfigText("https://[::ffff:127.0.0.1]:6443", ca, token), "loopback"},
		"localhost":             {kubeconfigText("https://LocalHost.:6443", ca, token), "loopback"},
		"number":                {kubeconfigText("https://2130706433:6443", ca, token), "odd spelling"},
		"hex":                   {kubeconfigText("https://0x7f.1:6443", ca, token), "odd spelling"},
		"unspecified":           {kubeconfigText("https://0.0.0.0:6443", ca, token), "unspecified"},
		"metadata":              {kubeconfigText("https://169.254.169.254", ca, token), "link-local"},
		"user in the server":    {kubeconfigText("https://a:b@192.0.2.1", ca, token), "not of the form"},
		"no ca":                 {kubeconfigText(server, "", token), "certificate-authority-data"},
		"ca is no certificate":  {kubeconfigText(server, "    certificate-authority-data: aGVsbG8=", token), "certificate-authority-data"},
		"no token":              {kubeconfigText(server, ca, "    {}"), "neither token"},
		"token with a line":     {kubeconfigText(server, ca, "    token: \"a\\r\\nX-Remote-User: admin\""), "control characters"},
		"no context":            {strings.Replace(kubeconfigText(server, ca, token), "current-context: west", "current-context: east", 1), "current-context"},
		"exec beside":           {kubeconfigText(server, ca, token) + "- name: other\n  user: {exec: {command: sh}}\n", "users[1].user.exec"},
		"too large":             {kubeconfigText(server, ca, token) + strings.Repeat("#", MaxKubeconfig), "more than"},
		"no yaml":               {"\x00\x01", "read kubeconfig"},
		"empty":                 {"", "current-context"},
		"aliases without end":   {bomb(), "read kubeconfig"},
		"client data unmatched": {kubeconfigText(server, ca, "    client-certificate-data: aGk=\n    client-key-data: aGk="), "do not fit"},
	} {
		t.Run(name, func(t *testing.T) {
			access, err := ParseKubeconfig([]byte(c.text), nil)
			switch {
			case c.wants == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.wants == "" && (access.Token != "secret" || access.Server == ""):
				t.Errorf("access %+v", access)
			case c.wants != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.wants)):
				t.Errorf("error %v, want one that says %q", err, c.wants)
			}
		})
	}
}

// An allowed host may be loopback, and no other.
func TestAllowServers(t *testing.T) {
	text := []byte(kubeconfigText("https://127.0.0.1:6443", "    certificate-authority-data: "+goodCA(t), "    token: x"))
	for allow, ok := range map[string]bool{"127.0.0.1": true, "127.0.0.1:6443": true, "127.0.0.1:6444": false, "localhost": false} {
		if _, err := ParseKubeconfig(text, []string{allow}); (err == nil) != ok {
			t.Errorf("allowed %s: %v", allow, err)
		}
	}
	// What a name leads to is looked at when it is dialled.
	for address, ok := range map[string]bool{"192.0.2.1:6443": true, "127.0.0.1:6443": false, "[fe80::1%eth0]:6443": false, "[::1]:1": false} {
		if err := allowedAddr(address, nil); (err == nil) != ok {
			t.Errorf("dial %s: %v", address, err)
		}
	}
}

// bomb is YAML whose aliases expand to more than memory holds.
func bomb() string {
	out := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 12 {
		prev, now := string(rune('a'+i))+"0", string(rune('b'+i))+"0"
		out += now + ": &" + now + " [" + strings.TrimSuffix(strings.Repeat("*"+prev+",", 10), ",") + "]\n"
	}
	return out
}

func FuzzParseKubeconfig(f *testing.F) {
	ca := "    certificate-authority-data: " + goodCA(f)
	f.Add(kubeconfigText("https://192.0.2.1:6443", ca, "    token: x"))
	f.Add(kubeconfigText("https://[::1%25lo]", ca, "    exec: {command: sh}"))
	f.Add(bomb())
	f.Fuzz(func(t *testing.T, text string) {
		access, err := ParseKubeconfig([]byte(text), nil)
		if err != nil {
			if !errors.Is(err, ErrRefused) {
				t.Errorf("error %v does not wrap ErrRefused", err)
			}
			return
		}
		if !strings.HasPrefix(access.Server, "https://") && !strings.HasPrefix(strings.ToLower(access.Server), "https://") {
			t.Errorf("server %q", access.Server)
		}
		if len(access.CA) == 0 || access.Token == "" && len(access.CertPEM) == 0 {
			t.Error("taken without CA or credentials")
		}
	})
}
