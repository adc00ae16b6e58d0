// Package config finds a server's settings: a command-line flag over a PARLEY_*
// variable over one YAML file over the default. Every setting is a row of one table, from
// which come the flags, the variables, the file's keys, their checks, their documentation
// and the output of `parley config default`; so none of them can lag behind.
//
// The file is strict: a key that is not in the table is an error that names the file, the
// line and the key that was probably meant.
package config
