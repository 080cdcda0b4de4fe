package nodeimage

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"sigs.k8s.io/kind/pkg/apis/config/defaults"

	"github.com/isthmus-mesh/isthmus/kind/engine"
	"github.com/isthmus-mesh/isthmus/kind/progress"
)

// hub answers where Docker Hub can be reached, to anybody, with 401.
const hub = "https://registry-1.docker.io/v2/"

// Pull returns the name of kind's own image; without an error Docker has it.
// Whether the registry can be reached is asked first, since a pull that cannot
// work may take minutes to say so.
func Pull(ctx context.Context, p *progress.Printer) (string, error) {
	const image = defaults.Image
	if _, err := engine.Output(ctx, "docker", "image", "inspect", image); err == nil {
		return image, nil
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(short, http.MethodGet, hub, nil)
	if err != nil {
		return image, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return image, err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusUnauthorized {
		return image, fmt.Errorf("%s answers %s", hub, answer.Status)
	}
	p.Say("node image", "pulling %s", image)
	_, err = engine.Output(ctx, "docker", "pull", "--quiet", image)
	return image, err
}
