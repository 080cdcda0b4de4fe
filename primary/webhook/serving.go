package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/api"
)

// SecretName holds the webhook's authority, shared by all replicas.
const SecretName = "isthmus-webhook"

// ConfigurationName is that of the MutatingWebhookConfiguration.
const ConfigurationName = "isthmus"

// ServingOptions configures a Serving.
type ServingOptions struct {
	Client    kubernetes.Interface // required
	Namespace string               // empty means isthmus-system
	Service   string               // that the API server calls; empty means isthmusd
	// Configuration is the name of the MutatingWebhookConfiguration; empty means ConfigurationName.
	Configuration string
	// Hosts are further names or addresses by which it is called, where the
	// configuration names a URL.
	Hosts    []string
	Interval time.Duration // between two looks; 0 means 10s
	Log      *slog.Logger  // nil discards
}

// Serving keeps the webhook's serving certificate and tells the API server
// which authority to trust for it.
type Serving struct {
	opts  ServingOptions
	leaf  atomic.Pointer[tls.Certificate]
	ready atomic.Bool
	root  atomic.Pointer[[]byte] // PEM of the authority that signed leaf

	signed *authority // who signed leaf; Run only
}

// NewServing checks opts.
func NewServing(opts ServingOptions) (*Serving, error) {
	if opts.Client == nil {
		return nil, errors.New("webhook serving: no client")
	}
	if opts.Namespace == "" {
		opts.Namespace = api.SystemNamespace
	}
	if opts.Service == "" {
		opts.Service = api.ControlPlaneName
	}
	if opts.Configuration == "" {
		opts.Configuration = ConfigurationName
	}
	if opts.Interval == 0 {
		opts.Interval = 10 * time.Second
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Serving{opts: opts}, nil
}

// Ready reports whether the API server has been told.
func (s *Serving) Ready() bool { return s.ready.Load() }

// Authority returns the PEM of what API servers are to trust, nil before there is one.
func (s *Serving) Authority() []byte {
	if root := s.root.Load(); root != nil {
		return *root
	}
	return nil
}

// TLS returns the configuration of the webhook's listener.
func (s *Serving) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, // what older API servers' clients may offer
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if leaf := s.leaf.Load(); leaf != nil {
				return leaf, nil
			}
			return nil, errors.New("no webhook certificate yet")
		},
	}
}

// Run keeps certificate and caBundle right until ctx ends. While the API server
// does not answer it goes on with what it has.
func (s *Serving) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		next := s.opts.Interval
		if err := s.look(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.opts.Log.Warn("webhook certificate is not in order", "err", err)
			if !s.Ready() {
				next = min(next, time.Second)
			}
		}
		timer.Reset(next)
	}
}

// look does once what Run repeats.
func (s *Serving) look(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ca, err := s.ensureAuthority(ctx, now)
	if err != nil {
		return fmt.Errorf("secret %s: %w", SecretName, err)
	}
	leaf := s.leaf.Load()
	if leaf == nil || s.signed == nil || !bytes.Equal(s.signed.certPEM, ca.certPEM) || now.After(leaf.Leaf.NotAfter.Add(-leafLifetime/2)) {
		if leaf, err = ca.issue(s.hosts(), now); err != nil {
			return fmt.Errorf("issue serving certificate: %w", err)
		}
		s.leaf.Store(leaf)
		s.signed = ca
		s.root.Store(&ca.certPEM)
	}
	if err := tell(ctx, s.opts.Client, s.opts.Configuration, ca.certPEM); err != nil {
		return fmt.Errorf("webhook configuration %s: %w", s.opts.Configuration, err)
	}
	s.ready.Store(true)
	return nil
}

func (s *Serving) hosts() []string {
	return append([]string{s.opts.Service + "." + s.opts.Namespace + ".svc"}, s.opts.Hosts...)
}

// ensureAuthority returns the shared authority and makes it where it is absent,
// broken or near its end. Of two replicas that make one, the first wins.
func (s *Serving) ensureAuthority(ctx context.Context, now time.Time) (*authority, error) {
	secrets := s.opts.Client.CoreV1().Secrets(s.opts.Namespace)
	found, err := secrets.Get(ctx, SecretName, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, err
	}
	absent := err != nil
	if !absent {
		ca, err := parseAuthority(found.Data[corev1.TLSCertKey], found.Data[corev1.TLSPrivateKeyKey], now)
		if err == nil {
			return ca, nil
		}
		s.opts.Log.Warn("webhook authority is made anew", "err", err)
	}
	ca, err := newAuthority(now)
	if err != nil {
		return nil, err
	}
	data := map[string][]byte{corev1.TLSCertKey: ca.certPEM, corev1.TLSPrivateKeyKey: ca.keyPEM}
	if absent {
		_, err = secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: SecretName, Labels: map[string]string{api.LabelManagedBy: api.ManagedBy}},
			Type:       corev1.SecretTypeTLS,
			Data:       data,
		}, metav1.CreateOptions{})
	} else {
		found.Data = data
		_, err = secrets.Update(ctx, found, metav1.UpdateOptions{})
	}
	if err != nil { // another replica may have been first: the next look takes its authority
		return nil, err
	}
	return ca, nil
}

// Tell writes the caBundle of ConfigurationName where it differs. A configuration that
// is not there is no error: then nobody calls.
func Tell(ctx context.Context, kube kubernetes.Interface, bundle []byte) error {
	return tell(ctx, kube, ConfigurationName, bundle)
}

func tell(ctx context.Context, kube kubernetes.Interface, name string, bundle []byte) error {
	configurations := kube.AdmissionregistrationV1().MutatingWebhookConfigurations()
	found, err := configurations.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	changed := false
	for i := range found.Webhooks {
		client := &found.Webhooks[i].ClientConfig
		if !bytes.Equal(client.CABundle, bundle) {
			client.CABundle, changed = bundle, true
		}
	}
	if !changed {
		return nil
	}
	_, err = configurations.Update(ctx, found, metav1.UpdateOptions{FieldManager: "isthmusd"})
	return err
}
