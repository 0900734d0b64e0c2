drop index accounts_skeleton_of;
