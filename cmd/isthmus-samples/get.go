package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// got is one answer in full.
type got struct {
	URL    string          `json:"url"`
	Status int             `json:"status"`
	Millis float64         `json:"ms"`
	Header http.Header     `json:"header"`
	Body   json.RawMessage `json:"body,omitempty"` // JSON as it is, else a string
}

func newGetCommand() *cobra.Command {
	var timeout time.Duration
	var headers []string
	cmd := &cobra.Command{
		Use:     "get URL",
		Short:   "Ask once and print the whole answer as JSON",
		Example: "  isthmus-samples get http://reviews.bookinfo.svc.clusterset.local:9080/reviews/0",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			header, err := parseHeaders(headers)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			answer, err := getOnce(ctx, args[0], header)
			if err != nil {
				return err
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent("", "  ")
			return enc.Encode(answer)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "for the request")
	cmd.Flags().StringArrayVarP(&headers, "header", "H", nil, "NAME: VALUE")
	return cmd
}

func getOnce(ctx context.Context, url string, header http.Header) (got, error) {
	start := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return got{}, err
	}
	req.Header = header
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return got{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, upstreamBytes))
	if err != nil {
		return got{}, fmt.Errorf("read answer: %w", err)
	}
	if !json.Valid(body) {
		if body, err = json.Marshal(string(body)); err != nil {
			return got{}, err
		}
	}
	return got{URL: url, Status: res.StatusCode, Millis: float64(time.Since(start).Microseconds()) / 1000, Header: res.Header, Body: body}, nil
}
