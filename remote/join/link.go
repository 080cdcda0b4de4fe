package join

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/remote/registry"
)

// TokenLife is how long a reader's token lives unless it is renewed. The API
// server may give less.
const TokenLife = 7 * 24 * time.Hour

// Options are those of Link, Unlink and Check.
type Options struct {
	Namespace string // system namespace of both; empty means api.SystemNamespace
	// AllowServers lists hosts that may be loopback, as registry.Options does.
	AllowServers []string
	Progress     func(step string) // may be nil
}

func (o Options) filled() Options {
	if o.Namespace == "" {
		o.Namespace = api.SystemNamespace
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return o
}

// Link lets from read to: an account in to that may list and watch what
// discovery needs, and in from its token as remote secret, and a ClusterLink. For
// both directions call it twice.
func Link(ctx context.Context, from, to Side, opts Options) error {
	opts = opts.filled()
	if err := errors.Join(from.check(), to.check()); err != nil {
		return err
	}
	if from.Cluster == to.Cluster {
		return fmt.Errorf("contexts %s and %s are both cluster %q", from.Context, to.Context, to.Cluster)
	}
	opts.Progress(fmt.Sprintf("account in %s for %s", to.Cluster, from.Cluster))
	client, err := to.client()
	if err != nil {
		return err
	}
	kubeconfig, err := accountAccess(ctx, client, readerOf(from.Cluster), from, to, opts)
	if err != nil {
		return err
	}
	opts.Progress(fmt.Sprintf("remote secret and link in %s for %s", from.Cluster, to.Cluster))
	w, err := newWriter(from)
	if err != nil {
		return err
	}
	if err := w.apply(ctx, secrets, remoteSecret(opts.Namespace, to.Cluster, kubeconfig)); err != nil {
		return err
	}
	return w.apply(ctx, clusterLinks, clusterLink(opts.Namespace, to.Cluster))
}

// accountAccess makes the account in to, and a kubeconfig by which from uses it.
func accountAccess(ctx context.Context, client kubernetes.Interface, a account, from, to Side, opts Options) ([]byte, error) {
	access, err := readerAccess(ctx, client, from, to, opts)
	if err != nil {
		return nil, err
	}
	if err := a.make(ctx, to, opts.Namespace); err != nil {
		return nil, err
	}
	if access.Token, err = requestToken(ctx, client, opts.Namespace, a.name); err != nil {
		return nil, fmt.Errorf("token for %s in %s: %w", from.Cluster, to.Context, err)
	}
	return encode(to.Cluster, access)
}

// readerAccess is the kubeconfig to be, but for its token. It is checked as
// the other side will, before anything is written.
func readerAccess(ctx context.Context, client kubernetes.Interface, from, to Side, opts Options) (registry.Access, error) {
	var access registry.Access
	var err error
	if access.Server, err = to.internalServer(ctx, client); err != nil {
		return access, err
	}
	if access.CA, err = to.ca(ctx, client); err != nil {
		return access, err
	}
	trial := access
	trial.Token = "to-be-made"
	raw, err := encode(to.Cluster, trial)
	if err != nil {
		return access, err
	}
	if _, err := registry.ParseKubeconfig(raw, opts.AllowServers); err != nil {
		return access, fmt.Errorf("%s would not take the kubeconfig of %s: %w", from.Cluster, to.Cluster, err)
	}
	return access, nil
}

func requestToken(ctx context.Context, client kubernetes.Interface, namespace, account string) (string, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(TokenLife / time.Second))}}
	answer, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return answer.Status.Token, nil
}

// encode writes access as a kubeconfig of one context.
func encode(cluster string, access registry.Access) ([]byte, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters[cluster] = &clientcmdapi.Cluster{Server: access.Server, TLSServerName: access.ServerName, CertificateAuthorityData: access.CA}
	config.AuthInfos[cluster] = &clientcmdapi.AuthInfo{Token: access.Token, ClientCertificateData: access.CertPEM, ClientKeyData: access.KeyPEM}
	config.Contexts[cluster] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: cluster}
	config.CurrentContext = cluster
	return clientcmd.Write(*config)
}

func remoteSecret(namespace, cluster string, kubeconfig []byte) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: api.RemoteSecretPrefix + cluster,
			Labels: map[string]string{api.LabelRemoteCluster: cluster, api.LabelManagedBy: api.ManagedBy},
		},
		Data: map[string][]byte{api.RemoteKubeconfigKey: kubeconfig, api.RemoteClusterKey: []byte(cluster)},
	}
}

// clusterLink says only what a link must; gateways, lease and priority are the
// user's to add.
func clusterLink(namespace, cluster string) *v1alpha1.ClusterLink {
	return &v1alpha1.ClusterLink{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ClusterLink"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: cluster, Labels: maps.Clone(managed())},
		Spec:       v1alpha1.ClusterLinkSpec{Cluster: cluster, SecretName: api.RemoteSecretPrefix + cluster},
	}
}

func managed() map[string]string { return map[string]string{api.LabelManagedBy: api.ManagedBy} }

// Unlink ends what Link made: from no longer reads to, and the account by which
// it did is gone, so that its token is worth nothing. A side whose Config is nil
// is left alone, as is what does not exist.
func Unlink(ctx context.Context, from, to Side, opts Options) error {
	opts = opts.filled()
	var errs []error
	if from.Config != nil {
		opts.Progress(fmt.Sprintf("remote secret and link in %s for %s", from.Cluster, to.Cluster))
		errs = append(errs, removeLink(ctx, from, to.Cluster, opts.Namespace))
	}
	if to.Config != nil {
		opts.Progress(fmt.Sprintf("account in %s for %s", to.Cluster, from.Cluster))
		errs = append(errs, readerOf(from.Cluster).remove(ctx, to, opts.Namespace))
	}
	return errors.Join(errs...)
}

func removeLink(ctx context.Context, from Side, cluster, namespace string) error {
	w, err := newWriter(from)
	if err != nil {
		return err
	}
	return errors.Join(
		w.remove(ctx, clusterLinks, namespace, cluster),
		w.remove(ctx, secrets, namespace, api.RemoteSecretPrefix+cluster),
	)
}

// Linked reports whether from has a remote secret for cluster to.
func Linked(ctx context.Context, from Side, to string, opts Options) (bool, error) {
	opts = opts.filled()
	client, err := from.client()
	if err != nil {
		return false, err
	}
	_, err = client.CoreV1().Secrets(opts.Namespace).Get(ctx, api.RemoteSecretPrefix+to, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}
