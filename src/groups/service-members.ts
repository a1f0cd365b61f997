/** What campaigns and other surfaces ask of groups. */
export { membersStep, selectGroupsOf, selectKnownGroups } from "./store-members";
