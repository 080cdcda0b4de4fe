package main

import (
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// service is one service of Bookinfo: what it registers on the mux.
type service func(mux *http.ServeMux, app app)

// app is what each service of Bookinfo has.
type app struct {
	self
	getenv func(string) string
	calls  *upstream
}

func newBookinfoCommand(name, short string, getenv func(string) string, register service) *cobra.Command {
	var addr, version string
	var linger time.Duration
	cmd := &cobra.Command{
		Use:   name,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s := selfFrom(name, getenv)
			if version != "" {
				s.Version = version
			}
			l, err := listen(cmd.Context(), addr)
			if err != nil {
				return err
			}
			return serveHTTP(cmd.Context(), l, newBookinfo(s, getenv, register), linger)
		},
	}
	cmd.Flags().StringVar(&addr, "listen", ":9080", "address to serve on")
	cmd.Flags().StringVar(&version, "version", "", "v1, v2 or v3; default $SERVICE_VERSION")
	cmd.Flags().DurationVar(&linger, "linger", defaultLinger, "go on serving for so long after the signal to end")
	return cmd
}

// defaultLinger is how long callers may take to learn that a pod is ending.
const defaultLinger = 3 * time.Second

func newBookinfo(s self, getenv func(string) string, register service) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": s.Service + " is healthy"})
	})
	register(mux, app{self: s, getenv: getenv, calls: newUpstream()})
	return mux
}

// details answers GET /details/ID.
func details(mux *http.ServeMux, app app) {
	mux.HandleFunc("GET /details/{id}", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{
			"id": r.PathValue("id"), "author": "William Shakespeare", "year": 1595, "type": "paperback", "pages": 200,
			"publisher": "PublisherA", "language": "English", "ISBN-10": "1234567890", "ISBN-13": "123-1234567890",
			"served": app.serve(w, r, false),
		})
	})
}

// ratings answers GET /ratings/ID.
func ratings(mux *http.ServeMux, app app) {
	mux.HandleFunc("GET /ratings/{id}", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{
			"id": r.PathValue("id"), "ratings": map[string]int{"Reviewer1": 5, "Reviewer2": 4},
			"served": app.serve(w, r, false),
		})
	})
}
