package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// How reachability is proved: a small read every probeEvery, sooner after one
// that was not answered. A cluster is reachable if one was in the last
// reachableFor. (See Options for both.)
const (
	probeEvery   = 2 * time.Second
	probeAgain   = 500 * time.Millisecond
	probeTimeout = 3 * time.Second
	reachableFor = 10 * time.Second
)

// identity is what a probe learns: the UID of namespace kube-system, which is
// the same for a cluster's life and different for each cluster.
type identity struct{ UID string }

// probe makes one small read through to the API server's storage.
func probe(ctx context.Context, client *http.Client, server string) (identity, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var list struct {
		Kind  string `json:"kind"`
		Items []struct {
			Metadata struct {
				UID string `json:"uid"`
			} `json:"metadata"`
		} `json:"items"`
	}
	err := getJSON(ctx, client, server, "/api/v1/namespaces?fieldSelector=metadata.name%3Dkube-system&limit=1", &list)
	if err != nil {
		return identity{}, err
	}
	if list.Kind != "NamespaceList" {
		return identity{}, fmt.Errorf("answer is no list of namespaces but %.40q: is this a Kubernetes API server?", list.Kind)
	}
	if len(list.Items) == 0 || list.Items[0].Metadata.UID == "" {
		return identity{}, errors.New("there is no namespace kube-system")
	}
	return identity{list.Items[0].Metadata.UID}, nil
}

// serverVersion asks for the API server's version, such as "v1.36.3".
func serverVersion(ctx context.Context, client *http.Client, server string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var version struct {
		GitVersion string `json:"gitVersion"`
	}
	err := getJSON(ctx, client, server, "/version", &version)
	return clip(version.GitVersion, 64), err
}

// getJSON reads at most 1 MiB.
func getJSON(ctx context.Context, client *http.Client, server, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(server, "/")+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, hint(resp.StatusCode))
	}
	return json.Unmarshal(body, into)
}

func hint(code int) string {
	switch {
	case code == http.StatusUnauthorized:
		return "the token is not accepted; run isthmus link again"
	case code == http.StatusForbidden:
		return "the account may not read; run isthmus link again"
	case code >= 300 && code < 400:
		return "redirects are not followed"
	}
	return "the API server refuses"
}

func clip(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "")
}
