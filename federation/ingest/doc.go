// Package ingest turns the objects of all linked clusters into the model. It is
// pure: Slim functions reduce Kubernetes objects to what the model needs, Inputs
// hold them with their indexes, and Build makes the next snapshot, sharing with
// the last one whatever did not change.
package ingest
