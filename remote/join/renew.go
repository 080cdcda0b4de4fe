package join

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/remote/registry"
)

// RenewAfter is the age at which a token is renewed, so that an outage of days
// heals by itself.
const RenewAfter = 24 * time.Hour

// RenewOptions configures Renew.
type RenewOptions struct {
	Local        kubernetes.Interface // required: the cluster that holds the remote secrets
	Namespace    string               // empty means api.SystemNamespace
	AllowServers []string
	Now          time.Time
}

// Renewal is what became of one remote secret.
type Renewal struct {
	Cluster string
	Renewed bool
	Expires time.Time // of the token in use; zero where that cannot be told
	Err     error
}

// Renew replaces each remote secret's token that is older than RenewAfter by
// one that the account asks for itself. The elected control plane calls it, some
// times a day. The error says that the secrets could not be listed.
func Renew(ctx context.Context, opts RenewOptions) ([]Renewal, error) {
	if opts.Namespace == "" {
		opts.Namespace = api.SystemNamespace
	}
	list, err := opts.Local.CoreV1().Secrets(opts.Namespace).List(ctx, metav1.ListOptions{LabelSelector: api.LabelRemoteCluster})
	if err != nil {
		return nil, fmt.Errorf("list remote secrets: %w", err)
	}
	var out []Renewal
	for i := range list.Items {
		out = append(out, renewOne(ctx, &list.Items[i], opts))
	}
	return out, nil
}

func renewOne(ctx context.Context, s *corev1.Secret, opts RenewOptions) Renewal {
	r := Renewal{Cluster: s.Labels[api.LabelRemoteCluster]}
	access, err := registry.ParseKubeconfig(s.Data[api.RemoteKubeconfigKey], opts.AllowServers)
	if err != nil {
		r.Err = err
		return r
	}
	claims, err := parseToken(access.Token)
	if err != nil {
		r.Err = err
		return r
	}
	r.Expires = time.Unix(claims.Expires, 0)
	if opts.Now.Sub(time.Unix(claims.Issued, 0)) < RenewAfter {
		return r
	}
	if r.Err = replaceToken(ctx, s, access, claims, opts); r.Err == nil {
		r.Renewed, r.Expires = true, opts.Now.Add(TokenLife)
	}
	return r
}

// replaceToken asks the remote for a new token and writes it, unless the secret
// has changed meanwhile.
func replaceToken(ctx context.Context, s *corev1.Secret, access registry.Access, claims tokenClaims, opts RenewOptions) error {
	httpClient, err := registry.NewClient(access, opts.AllowServers)
	if err != nil {
		return err
	}
	defer httpClient.CloseIdleConnections()
	client, err := kubernetes.NewForConfigAndClient(&rest.Config{Host: access.Server}, httpClient)
	if err != nil {
		return err
	}
	if access.Token, err = requestToken(ctx, client, claims.namespace, claims.account); err != nil {
		return fmt.Errorf("renew token: %w", err)
	}
	raw, err := encode(s.Labels[api.LabelRemoteCluster], access)
	if err != nil {
		return err
	}
	changed := s.DeepCopy()
	changed.Data[api.RemoteKubeconfigKey] = raw
	if _, err := opts.Local.CoreV1().Secrets(s.Namespace).Update(ctx, changed, metav1.UpdateOptions{FieldManager: fieldOwner}); err != nil {
		return fmt.Errorf("write renewed token: %w", err)
	}
	return nil
}

// tokenClaims is what a service-account token says of itself. It is not
// verified here: the API server that gave it does that.
type tokenClaims struct {
	Expires int64  `json:"exp"`
	Issued  int64  `json:"iat"`
	Subject string `json:"sub"`

	namespace, account string
}

var errToken = errors.New("the token is no service-account token")

func parseToken(token string) (tokenClaims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return tokenClaims{}, errToken
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return tokenClaims{}, errToken
	}
	var c tokenClaims
	if err := json.Unmarshal(raw, &c); err != nil {
		return tokenClaims{}, errToken
	}
	subject := strings.Split(c.Subject, ":")
	if len(subject) != 4 || subject[0] != "system" || subject[1] != "serviceaccount" {
		return tokenClaims{}, errToken
	}
	c.namespace, c.account = subject[2], subject[3]
	return c, nil
}
