export { NewResourceDto } from './clinic.dto';
export { ClinicModule } from './clinic.module';
export { LocationsService } from './locations.service';
export { OrganizationService, type PatientRules } from './organization.service';
export { CALLER, type PatientFields, PatientsService } from './patients.service';
export { PractitionersService, RoomsService, showResource } from './resources.service';
export { ServicesService } from './services.service';
