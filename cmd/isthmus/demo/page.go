package demo

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// pageURL is the page as a pod of its own cluster calls it.
const pageURL = "http://productpage." + Namespace + ".svc.cluster.local:9080/productpage"

// Page is who took part in one page of the sample application.
type Page struct {
	URL     string `json:"url"`
	Status  int    `json:"status"`
	Page    Server `json:"productpage"`
	Details Server `json:"details"`
	Reviews Server `json:"reviews"`
	Ratings Server `json:"ratings,omitzero"` // reviews v1 asks for none
}

// page asks for the page until all who take part answer.
func (r *run) page(ctx context.Context) error {
	client, err := clientPod(ctx, r.east)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, firstRequestPatience)
	defer cancel()
	return cluster.Until(ctx, "an answer of "+pageURL, func(ctx context.Context) (string, error) {
		out, err := r.east.Output(ctx, Namespace, client.Name, "client", "/isthmus-samples", "get", pageURL, "-H", "Accept: application/json")
		if err != nil {
			return "", err
		}
		page, missing, err := readPage(out)
		r.report.Page = page
		return missing, err
	})
}

// readPage reads what the client printed; missing says what keeps the page from being whole.
func readPage(out []byte) (page Page, missing string, err error) {
	var answer struct {
		Status int
		Body   struct {
			Served  Server
			Details struct{ Served Server }
			Reviews struct {
				Served  Server
				Ratings struct{ Served Server }
			}
			DetailsError, ReviewsError string
		}
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return Page{}, "", fmt.Errorf("read page: %w", err)
	}
	b := answer.Body
	page = Page{URL: pageURL, Status: answer.Status, Page: b.Served, Details: b.Details.Served, Reviews: b.Reviews.Served, Ratings: b.Reviews.Ratings.Served}
	if answer.Status != 200 {
		missing = fmt.Sprintf("status %d: %s %s", answer.Status, b.DetailsError, b.ReviewsError)
	}
	return page, missing, nil
}
