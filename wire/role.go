package wire

// A Role is what a member of a group may do. Roles compare: who has a higher one may do
// all that lower ones may.
type Role uint8

// The roles of a group, of which each has exactly one owner.
const (
	RoleNone      Role = 0 // not a member
	RoleReader    Role = 1
	RoleMember    Role = 2
	RoleModerator Role = 3
	RoleAdmin     Role = 4
	RoleOwner     Role = 5
)

var roleNames = [...]string{"none", "reader", "member", "moderator", "admin", "owner"}

// String is the role's name, or "role N".
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return "role " + uitoa(uint64(r))
}
