package config

import "strings"

// nearest is the candidate that a name was probably meant to be: at most a third of its
// letters are different. Empty: none is near.
func nearest(name string, candidates []string) string {
	fold := strings.NewReplacer("-", "_", ".", "_").Replace
	best, least := "", len(name)/3+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(fold(name)), strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance counts the letters to insert, remove or replace to turn a into b
// (Levenshtein, one row of the table at a time).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
