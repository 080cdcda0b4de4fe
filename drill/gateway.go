package drill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// ErrNotBuiltin is wrapped where a gateway cannot break its listener: its data plane is Envoy, whose sockets
// are not ours, or it is of a release that could not do so yet.
var ErrNotBuiltin = errors.New("the gateway cannot break its own listener, which takes the built-in data plane")

// selectGateway selects the pods of the east-west gateway.
const selectGateway = api.LabelGateway + "=" + api.GatewayEastWest

// faultPath is where the admin page of a proxy is asked for a fault.
const faultPath = "/fault"

// GatewayBreaks returns nil where every pod of the east-west gateway of in can break its listener, and can be
// asked to. Nothing is changed. The error wraps ErrNotBuiltin where that is why.
func GatewayBreaks(ctx context.Context, in *cluster.Cluster) error {
	return eachGateway(ctx, in, http.MethodGet, nil)
}

func (c Change) breakGateway(ctx context.Context, h Hands) error {
	in, err := h.Open(c.Context)
	if err != nil {
		return err
	}
	return eachGateway(ctx, in, http.MethodPost, url.Values{"mode": {c.Fault.Mode}, "for": {faultLife.String()}})
}

// mendGateway waits, where a pod cannot be told, until its fault has ended by itself.
func (c Change) mendGateway(ctx context.Context, h Hands) error {
	in, err := h.Open(c.Context)
	if err != nil {
		return err
	}
	pods, err := in.Pods(ctx, api.SystemNamespace, selectGateway)
	if err == nil && len(pods) == 0 {
		return nil // whoever starts anew is whole
	}
	if err == nil {
		err = askAll(ctx, in, pods, http.MethodDelete, nil)
	}
	if err == nil {
		return nil
	}
	return pause(ctx, faultLife)
}

// eachGateway asks the admin page of all pods of the gateway, at the same time.
func eachGateway(ctx context.Context, in *cluster.Cluster, method string, query url.Values) error {
	pods, err := in.Pods(ctx, api.SystemNamespace, selectGateway)
	if err != nil {
		return err
	}
	if len(pods) == 0 {
		return fmt.Errorf("no pod of the east-west gateway runs in %s", in.Context)
	}
	return askAll(ctx, in, pods, method, query)
}

// askAll asks pods. Those that are not ready need not answer: no peer is led to them.
func askAll(ctx context.Context, in *cluster.Cluster, pods []corev1.Pod, method string, query url.Values) error {
	path := faultPath
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	errs := make([]error, len(pods))
	var wg sync.WaitGroup
	for i := range pods {
		wg.Go(func() {
			_, err := in.Do(ctx, api.SystemNamespace, pods[i].Name, api.PortAdmin, method, path)
			if answer, ok := errors.AsType[*cluster.AnswerError](err); ok && (answer.Code == http.StatusNotImplemented || answer.Code == http.StatusNotFound) {
				err = fmt.Errorf("%s: %w", pods[i].Name, ErrNotBuiltin)
			}
			if cluster.Ready(&pods[i]) {
				errs[i] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
