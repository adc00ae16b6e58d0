package wire

// A UserQuery is one identifier of USERS with the version that the client has.
type UserQuery struct {
	ID      ID
	Version uint64 // 0: none
}

// Users asks for the names of identifiers.
type Users struct {
	Correlation uint64
	Queries     []UserQuery
}

// AppendUsers appends a USERS frame.
func AppendUsers(dst []byte, u *Users) []byte {
	dst, start := open(dst, TypeUsers, false)
	dst = appendUvarint(dst, u.Correlation)
	dst = appendUvarint(dst, uint64(len(u.Queries)))
	for _, q := range u.Queries {
		dst = appendUvarint(dst, uint64(q.ID))
		dst = appendUvarint(dst, q.Version)
	}
	return closeFrame(dst, start)
}

// ParseUsers reads a USERS frame.
func ParseUsers(f Frame) (u Users, err error) {
	r := f.fields()
	u.Correlation = r.uint()
	n := r.count(UsersMax, 2)
	u.Queries = room[UserQuery](n)
	for range n {
		if r.err != nil {
			break
		}
		u.Queries = append(u.Queries, UserQuery{ID: r.id(), Version: r.uint()})
	}
	return u, r.end()
}

// Resolve asks for the users with the given names.
type Resolve struct {
	Correlation uint64
	Names       []string
}

// AppendResolve appends a RESOLVE frame.
func AppendResolve(dst []byte, q *Resolve) []byte {
	dst, start := open(dst, TypeResolve, false)
	dst = appendUvarint(dst, q.Correlation)
	dst = appendUvarint(dst, uint64(len(q.Names)))
	for _, name := range q.Names {
		dst = appendBytes(dst, name)
	}
	return closeFrame(dst, start)
}

// ParseResolve reads a RESOLVE frame.
func ParseResolve(f Frame) (q Resolve, err error) {
	r := f.fields()
	q.Correlation = r.uint()
	n := r.count(UsersMax, 1)
	q.Names = room[string](n)
	for range n {
		if r.err != nil {
			break
		}
		q.Names = append(q.Names, string(r.bytes(NameBytesMax)))
	}
	return q, r.end()
}

// A User is one answer of USER_LIST. Those that do not exist, or whose known version
// is current, are left out.
type User struct {
	ID      ID
	Version uint64
	Name    string
	// Extensions is an extension block (see Extensions), empty in version 1: room for
	// pictures and the like. A string, so that users can be compared.
	Extensions string
}

// A UserList answers USERS and RESOLVE.
type UserList struct {
	Correlation uint64
	Users       []User
}

// AppendUserList appends a USER_LIST frame.
func AppendUserList(dst []byte, l *UserList) []byte {
	dst, start := open(dst, TypeUserList, false)
	dst = appendUvarint(dst, l.Correlation)
	dst = appendUvarint(dst, uint64(len(l.Users)))
	for _, u := range l.Users {
		dst = appendUvarint(dst, uint64(u.ID))
		dst = appendUvarint(dst, u.Version)
		dst = appendBytes(dst, u.Name)
		dst = appendBytes(dst, u.Extensions)
	}
	return closeFrame(dst, start)
}

// ParseUserList reads a USER_LIST frame.
func ParseUserList(f Frame) (l UserList, err error) {
	r := f.fields()
	l.Correlation = r.uint()
	n := r.count(UsersMax, 4)
	l.Users = room[User](n)
	for range n {
		if r.err != nil {
			break
		}
		l.Users = append(l.Users, User{
			ID: r.id(), Version: r.uint(), Name: string(r.bytes(NameBytesMax)), Extensions: r.block(),
		})
	}
	return l, r.end()
}
