// Package review has the tokens of proxies reviewed by the API server of their
// cluster.
package review

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/csr"
)

// Keys of status.user.extra; each has one value for a pod-bound token.
const (
	extraPodName  = "authentication.kubernetes.io/pod-name"
	extraPodUID   = "authentication.kubernetes.io/pod-uid"
	extraNodeName = "authentication.kubernetes.io/node-name"
)

// maxReason bounds in bytes what is passed on of an API server's reason.
const maxReason = 200

// Options configures a Reviewer.
type Options struct {
	Cluster string       // required; the only cluster whose tokens are reviewed
	Config  *rest.Config // required; leads to that cluster; its rate limits are not used
	Domain  trust.Domain // required; of the identities

	// TTL is how long a good answer is believed; 0 means 2s. The API server itself
	// lets a deleted pod's token pass for 6 to 9 s, to which this adds.
	TTL        time.Duration
	Timeout    time.Duration // of one review; 0 means 5s
	Concurrent int           // reviews at once; 0 means 64
}

// Reviewer implements csr.Reviewer.
type Reviewer struct {
	cluster string
	domain  trust.Domain
	reviews authenticationclient.TokenReviewInterface
	timeout time.Duration
	places  chan struct{}
	answers *cache
}

// New returns a reviewer. It does no I/O.
func New(opts Options) (*Reviewer, error) {
	if !trust.ValidCluster(opts.Cluster) || opts.Domain.IsZero() || opts.Config == nil {
		return nil, errors.New("token review: cluster, trust domain and client configuration are required")
	}
	concurrent := cmp.Or(opts.Concurrent, 64)
	config := rest.CopyConfig(opts.Config)
	// What bounds reviews is their number at once; five a second, which is the
	// default, would let a restarted cluster wait for hours.
	config.RateLimiter, config.QPS, config.Burst = nil, -1, 0
	client, err := authenticationclient.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("token review: %w", err)
	}
	return &Reviewer{
		cluster: opts.Cluster, domain: opts.Domain, reviews: client.TokenReviews(),
		timeout: cmp.Or(opts.Timeout, 5*time.Second),
		places:  make(chan struct{}, concurrent),
		answers: newCache(cmp.Or(opts.TTL, 2*time.Second)),
	}, nil
}

// Review implements csr.Reviewer.
func (r *Reviewer) Review(ctx context.Context, cluster, token string) (csr.Reviewed, error) {
	if cluster != r.cluster {
		return csr.Reviewed{}, fmt.Errorf("%w: %q", csr.ErrOtherCluster, cluster)
	}
	if known, ok := r.answers.get(token, time.Now()); ok {
		return known, nil
	}
	asked := time.Now()
	status, err := r.ask(ctx, token)
	if err != nil {
		return csr.Reviewed{}, err
	}
	reviewed, err := judge(status, r.cluster, r.domain)
	if err == nil {
		r.answers.put(token, reviewed, asked)
	}
	return reviewed, err
}

func (r *Reviewer) ask(ctx context.Context, token string) (authenticationv1.TokenReviewStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	select {
	case r.places <- struct{}{}:
		defer func() { <-r.places }()
	case <-ctx.Done():
		return authenticationv1.TokenReviewStatus{}, fmt.Errorf("wait for a token review: %w", ctx.Err())
	}
	answer, err := r.reviews.Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{api.TokenAudience(r.cluster)}},
	}, metav1.CreateOptions{})
	if err != nil {
		return authenticationv1.TokenReviewStatus{}, fmt.Errorf("ask the api server of cluster %q: %w", r.cluster, err)
	}
	return answer.Status, nil
}

// judge says whom an answer proves. Every error wraps csr.ErrRefused.
func judge(status authenticationv1.TokenReviewStatus, cluster string, domain trust.Domain) (csr.Reviewed, error) {
	if !status.Authenticated || status.Error != "" {
		reason := status.Error
		return csr.Reviewed{}, fmt.Errorf("%w: %s", csr.ErrRefused, cmp.Or(reason[:min(len(reason), maxReason)], "not authenticated"))
	}
	// An API server that knows nothing of audiences leaves them out.
	if !slices.Contains(status.Audiences, api.TokenAudience(cluster)) {
		return csr.Reviewed{}, fmt.Errorf("%w: not for cluster %q", csr.ErrRefused, cluster)
	}
	namespace, account, err := splitUsername(status.User.Username)
	if err != nil {
		return csr.Reviewed{}, err
	}
	id, err := trust.NewID(domain, namespace, account)
	if err != nil {
		return csr.Reviewed{}, fmt.Errorf("%w: %w", csr.ErrRefused, err)
	}
	reviewed := csr.Reviewed{
		ID: id, Cluster: cluster, Namespace: namespace,
		Pod: extra(status.User, extraPodName), PodUID: extra(status.User, extraPodUID), Node: extra(status.User, extraNodeName),
	}
	if reviewed.Pod == "" || reviewed.PodUID == "" {
		return csr.Reviewed{}, fmt.Errorf("%w: not bound to a pod", csr.ErrRefused)
	}
	return reviewed, nil
}

// splitUsername takes system:serviceaccount:NAMESPACE:NAME apart.
func splitUsername(username string) (namespace, account string, err error) {
	rest, ok := strings.CutPrefix(username, "system:serviceaccount:")
	namespace, account, both := strings.Cut(rest, ":")
	if !ok || !both || namespace == "" || account == "" || strings.Contains(account, ":") {
		return "", "", fmt.Errorf("%w: not of a service account", csr.ErrRefused)
	}
	return namespace, account, nil
}

func extra(user authenticationv1.UserInfo, key string) string {
	if values := user.Extra[key]; len(values) == 1 {
		return values[0]
	}
	return ""
}
