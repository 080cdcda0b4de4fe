package control

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"

	"github.com/isthmus-mesh/isthmus/sandbox/kube/pki"
)

// runAPIServer serves the Kubernetes API on listener until ctx ends.
func (s *server) runAPIServer(ctx context.Context, etcd string) error {
	opts := options.NewServerRunOptions()
	args, err := s.apiServerArgs(etcd)
	if err != nil {
		return err
	}
	if err := parse(opts.Flags(), args); err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	opts.SecureServing.Listener = s.listener
	opts.SecureServing.BindPort = s.listener.Addr().(*net.TCPAddr).Port
	if err := opts.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	if err := logsapi.ValidateAndApply(opts.Logs, nil); err != nil {
		return err
	}
	completed, err := opts.Complete(ctx)
	if err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return fmt.Errorf("kube-apiserver: %w", utilerrors.NewAggregate(errs))
	}
	if err := apiserver.Run(ctx, completed); err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	return nil
}

func (s *server) apiServerArgs(etcd string) ([]string, error) {
	dir := s.opts.Dir
	host, _, err := net.SplitHostPort(s.listener.Addr().String())
	if err != nil {
		return nil, err
	}
	first, err := firstAddress(s.opts.ServiceRange)
	if err != nil {
		return nil, err
	}
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local", "localhost", "127.0.0.1", host, first}
	cert, key, err := issue(s.pki.Server, dir, "apiserver", names...)
	if err != nil {
		return nil, err
	}
	kubeletPair, err := s.pki.Client("kube-apiserver-kubelet-client", "system:masters")
	if err != nil {
		return nil, err
	}
	kubeletCert, kubeletKey, err := kubeletPair.Write(dir, "apiserver-kubelet-client")
	if err != nil {
		return nil, err
	}
	args := []string{
		"--etcd-servers=" + etcd,
		"--bind-address=" + host,
		"--advertise-address=" + host,
		"--tls-cert-file=" + cert,
		"--tls-private-key-file=" + key,
		"--cert-dir=" + dir,
		"--client-ca-file=" + filepath.Join(dir, "ca.crt"),
		"--kubelet-client-certificate=" + kubeletCert,
		"--kubelet-client-key=" + kubeletKey,
		"--kubelet-certificate-authority=" + filepath.Join(dir, "ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + filepath.Join(dir, "ca.key"),
		"--service-account-signing-key-file=" + filepath.Join(dir, "ca.key"),
		"--service-cluster-ip-range=" + s.opts.ServiceRange,
		"--authorization-mode=Node,RBAC",
		"--allow-privileged=true",
		"--kubelet-preferred-address-types=InternalIP", // the node has no name in any DNS
		"--profiling=false",
	}
	if ip := net.ParseIP(host); ip.IsLoopback() {
		args = append(args, "--endpoint-reconciler-type=none") // endpoints may not be loopback addresses
	}
	if !s.opts.Controllers {
		// Nobody makes the default account of a namespace, so pods cannot be
		// asked to have one.
		args = append(args, "--disable-admission-plugins=ServiceAccount")
	}
	return args, nil
}

func issue(sign func(...string) (pki.Pair, error), dir, name string, names ...string) (cert, key string, err error) {
	pair, err := sign(names...)
	if err != nil {
		return "", "", err
	}
	return pair.Write(dir, name)
}

// firstAddress is the address of the Service "kubernetes".
func firstAddress(serviceRange string) (string, error) {
	_, network, err := net.ParseCIDR(strings.Split(serviceRange, ",")[0])
	if err != nil {
		return "", fmt.Errorf("service range: %w", err)
	}
	ip := network.IP
	ip[len(ip)-1]++
	return ip.String(), nil
}

func parse(sets cliflag.NamedFlagSets, args []string) error {
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	all.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	for _, set := range sets.FlagSets {
		all.AddFlagSet(set)
	}
	return all.Parse(args)
}
