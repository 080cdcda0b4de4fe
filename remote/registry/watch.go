package registry

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/isthmus-mesh/isthmus/api"
)

// watchSecrets feeds the remote secrets of the one namespace to the registry.
func (r *Registry) watchSecrets(ctx context.Context, client kubernetes.Interface) {
	secrets := client.CoreV1().Secrets(r.opts.Namespace)
	list := func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		o.LabelSelector = api.LabelRemoteCluster
		return secrets.List(ctx, o)
	}
	lw := plainLists{&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			if err := Behind(ctx, o.ResourceVersion, list); err != nil {
				return nil, err
			}
			found, err := list(ctx, o)
			r.tellListError(ctx, err)
			return found, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = api.LabelRemoteCluster
			if err := Behind(ctx, o.ResourceVersion, list); err != nil {
				return nil, err
			}
			return secrets.Watch(ctx, o)
		},
	}}
	quiet := logr.Discard() // errors are told by tellListError
	backoff := wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 5, Cap: 5 * time.Second}
	cache.NewReflectorWithOptions(lw, &corev1.Secret{}, secretStore{r}, cache.ReflectorOptions{Name: "remote secrets", Backoff: &backoff, Logger: &quiet}).
		RunWithContext(klog.NewContext(ctx, quiet))
}

// tellListError logs an error of the list; while it lasts nothing changes.
func (r *Registry) tellListError(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		r.opts.Log.Warn("list remote secrets", "namespace", r.opts.Namespace, "err", err)
	}
}

// plainLists says that the server is asked for lists and not for one endless
// stream, whose end a bad server could withhold.
type plainLists struct{ *cache.ListWatch }

func (plainLists) IsWatchListSemanticsUnSupported() bool { return true }

// secretStore gives a reflector's events to the registry. Secrets are checked
// on arrival; nothing else of them is kept.
type secretStore struct{ r *Registry }

func (s secretStore) Add(o any) error {
	secret := s.r.check(o.(*corev1.Secret))
	s.r.setSecrets(func(m map[string]remote) { m[secret.secret] = secret })
	return nil
}

func (s secretStore) Update(o any) error { return s.Add(o) }

func (s secretStore) Delete(o any) error {
	s.r.setSecrets(func(m map[string]remote) { delete(m, o.(*corev1.Secret).Name) })
	return nil
}

func (s secretStore) Replace(list []any, _ string) error {
	var all []remote
	for _, o := range list {
		all = append(all, s.r.check(o.(*corev1.Secret)))
	}
	s.r.setSecrets(func(m map[string]remote) {
		clear(m)
		for _, secret := range all {
			m[secret.secret] = secret
		}
	})
	return nil
}

func (secretStore) Resync() error { return nil }
