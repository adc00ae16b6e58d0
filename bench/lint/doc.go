// Package lint holds the house style and the import rules as code, so that `go test` keeps them.
//
// A rule is a function from the tree to findings. Each has a small bad tree under testdata
// that it must object to, so that a rule which no longer sees anything fails its own test.
package lint
