// Package registry keeps the linked clusters: it watches the remote secrets of
// the system namespace, checks them, and holds for each a live client whose
// reachability is proved, not assumed. What is read there is its caller's.
package registry

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"
)

// MaxKubeconfig is the greatest size of a kubeconfig in bytes.
const MaxKubeconfig = 64 << 10

// ErrRefused is wrapped by every error about a remote secret's content.
var ErrRefused = errors.New("remote secret refused")

// Access is what a checked kubeconfig comes to. It is rebuilt by hand, so
// nothing is in it that was not looked at.
type Access struct {
	Server     string // https://HOST[:PORT][/PATH]
	ServerName string // for verification, where it differs from the host
	CA         []byte // PEM
	Token      string
	CertPEM    []byte // client certificate and key, in place of a token
	KeyPEM     []byte

	home *Home // with a client of its own, which goes before all of these
}

// ParseKubeconfig checks raw, which is untrusted, and returns its current
// context. It opens, runs and dials nothing. allow names hosts that may be
// loopback or link-local.
func ParseKubeconfig(raw []byte, allow []string) (Access, error) {
	if len(raw) > MaxKubeconfig {
		return Access{}, refused("kubeconfig has %d bytes, more than %d", len(raw), MaxKubeconfig)
	}
	var config clientcmdapi.Config
	if err := yaml.UnmarshalStrict(raw, &config); err != nil {
		return Access{}, refused("read kubeconfig: %s", oneLine(err))
	}
	for i := range config.Clusters {
		if err := checkCluster(fmt.Sprintf("clusters[%d].cluster", i), &config.Clusters[i].Cluster); err != nil {
			return Access{}, err
		}
	}
	for i := range config.AuthInfos {
		if err := checkUser(fmt.Sprintf("users[%d].user", i), &config.AuthInfos[i].AuthInfo); err != nil {
			return Access{}, err
		}
	}
	return current(&config, allow)
}

func current(config *clientcmdapi.Config, allow []string) (Access, error) {
	c := slices.IndexFunc(config.Contexts, func(c clientcmdapi.NamedContext) bool { return c.Name == config.CurrentContext })
	if c < 0 {
		return Access{}, refused("current-context %q is not among the contexts", config.CurrentContext)
	}
	entry := config.Contexts[c].Context
	k := slices.IndexFunc(config.Clusters, func(k clientcmdapi.NamedCluster) bool { return k.Name == entry.Cluster })
	u := slices.IndexFunc(config.AuthInfos, func(u clientcmdapi.NamedAuthInfo) bool { return u.Name == entry.AuthInfo })
	if k < 0 || u < 0 {
		return Access{}, refused("context %q names an unknown cluster or user", config.CurrentContext)
	}
	cluster, user := config.Clusters[k].Cluster, config.AuthInfos[u].AuthInfo
	if err := checkServer(cluster.Server, allow); err != nil {
		return Access{}, err
	}
	access := Access{
		Server: cluster.Server, ServerName: cluster.TLSServerName, CA: cluster.CertificateAuthorityData,
		Token: user.Token, CertPEM: user.ClientCertificateData, KeyPEM: user.ClientKeyData,
	}
	return access, access.check()
}

func (a Access) check() error {
	if !x509.NewCertPool().AppendCertsFromPEM(a.CA) {
		return refused("certificate-authority-data holds no certificate")
	}
	if strings.ContainsAny(a.Token, "\r\n\x00") {
		return refused("token holds control characters")
	}
	if len(a.CertPEM) > 0 || len(a.KeyPEM) > 0 {
		if _, err := tls.X509KeyPair(a.CertPEM, a.KeyPEM); err != nil {
			return refused("client-certificate-data and client-key-data do not fit")
		}
	} else if a.Token == "" {
		return refused("user has neither token nor client-certificate-data")
	}
	return nil
}

func checkCluster(at string, c *clientcmdapi.Cluster) error {
	switch {
	case c.InsecureSkipTLSVerify:
		return notAllowed(at, "insecure-skip-tls-verify")
	case c.CertificateAuthority != "":
		return notAllowed(at, "certificate-authority")
	case c.ProxyURL != "":
		return notAllowed(at, "proxy-url")
	}
	return nil
}

func checkUser(at string, u *clientcmdapi.AuthInfo) error {
	switch {
	case u.Exec != nil:
		return notAllowed(at, "exec")
	case u.AuthProvider != nil:
		return notAllowed(at, "auth-provider")
	case u.TokenFile != "":
		return notAllowed(at, "tokenFile")
	case u.ClientCertificate != "":
		return notAllowed(at, "client-certificate")
	case u.ClientKey != "":
		return notAllowed(at, "client-key")
	case u.Username != "" || u.Password != "":
		return notAllowed(at, "username")
	case u.Impersonate != "" || u.ImpersonateUID != "" || len(u.ImpersonateGroups) > 0 || len(u.ImpersonateUserExtra) > 0:
		return notAllowed(at, "as")
	}
	return nil
}

// checkServer refuses what would make this program call itself, its node or a
// metadata service. Names are looked at again when they are dialled.
func checkServer(server string, allow []string) error {
	u, err := url.Parse(server)
	switch {
	case err != nil:
		return refused("server is no URL")
	case u.Scheme != "https":
		return refused("server %q: only https is allowed", u.Redacted())
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Hostname() == "":
		return refused("server %q is not of the form https://HOST:PORT", u.Redacted())
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if slices.Contains(allow, host) || slices.Contains(allow, u.Host) {
		return nil
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return refused("server %q is loopback, which leads to another place in this cluster", server)
	}
	addr, err := netip.ParseAddr(host)
	if err != nil && numeric(host) {
		return refused("server %q is an odd spelling of an address", server)
	}
	if err == nil {
		if why := forbidden(addr); why != "" {
			return refused("server %q is %s, which leads to another place in this cluster", server, why)
		}
	}
	return nil
}

// numeric reports whether some resolvers would take host for an address: its
// last label is a number, as in "2130706433" or "0x7f.1".
func numeric(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" {
		return true
	}
	_, isHex := strings.CutPrefix(last, "0x")
	return isHex || strings.Trim(last, "0123456789") == ""
}

// forbidden says why no API server of another cluster has that address, or "".
func forbidden(a netip.Addr) string {
	a = a.Unmap()
	switch {
	case a.IsLoopback():
		return "loopback"
	case a.IsUnspecified():
		return "the unspecified address"
	case a.IsLinkLocalUnicast():
		return "link-local"
	case a.IsMulticast():
		return "multicast"
	case a == netip.MustParseAddr("fd00:ec2::254"):
		return "a metadata service"
	}
	return ""
}

// allowedAddr reports whether address ("IP:port", as dialled) may be connected to.
func allowedAddr(address string, allow []string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return err
	}
	if why := forbidden(addr); why != "" && !slices.Contains(allow, host) && !slices.Contains(allow, address) {
		return refused("the server's name leads to %s, which is %s", host, why)
	}
	return nil
}

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

func notAllowed(at, field string) error {
	return refused("kubeconfig field %s.%s is not allowed", at, field)
}

// oneLine shortens a parser's error, which may quote its input at length.
func oneLine(err error) string {
	b := bytes.Join(bytes.Fields([]byte(err.Error())), []byte(" "))
	if len(b) > 200 {
		b = b[:200]
	}
	return strings.ToValidUTF8(string(b), "")
}
